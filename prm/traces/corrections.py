r"""The words with which a writer turns: takes something back, checks it, or tries another way.

A correction takes back or checks earlier work: "Wait, ...", "Hmm, that's not right", "Let me
double-check", "Did I miss one?", "等等". What only resembles one is none:

- "Wait times are exponential": "wait" counts before a stop, or before words with which a sentence
  about the work goes on ("wait no", "wait, the", "wait is").
- "Hmm" and "okay" are hesitation: what follows them decides.
- "Actually" counts before a denial or a check ("Actually, no", "Actually, I forgot"), not as a
  plain adverb ("Actually, we can factor this").
- "Let me check" counts when its object is earlier work ("that", "my sum", "again", "if this is
  right"), not when it is a new case ("Let me check n = 2", "Let me check if 7 divides it").
- "That doesn't work" and "that's not possible" end a trial or a case as often as they take
  something back: they do not count. Nor does "This contradicts the assumption", a proof at work;
  "This contradicts what I found" does.

The patterns are matched at the beginning of a sentence, apart from capitals, and look at a bounded
stretch of it.
"""

from __future__ import annotations

import re

# What a sentence may begin with before the words that count. A full stop after the first kind
# leaves it open ("Hmm. Wait"); after the second ("Yes. Let me verify") a new sentence begins.
_FILLER = (
    r"(?:(?:hm+|huh|oh|ah|uh|um|no|well|哦|噢|嗯+|啊|呃|哎)(?![A-Za-z])[ \t,.!?…:;，。、—–-]{0,6}+"
    r"|(?:but|and|so|or|ok|okay|yeah|yes|alright|right|now|then|also|just|however|maybe|perhaps|first"
    r"|actually|但是?|可是|那|不过|所以)(?![A-Za-z])[ \t,?…:;，、—–-]{0,6}+)"
)
_STOP = r"\s{0,2}(?:[,.!?…:;，—–]|--|-\s|\n|$)"
_NOT = (
    r"(?:doesn't|does not|can't|cannot|can not|isn't|is not|wasn't|was not|didn't|shouldn't|won't)"
)
_IS = r"(?:'s|'re| is| are| was| were| seems| looks| must be| went| feels)"
_WORK = (
    r"(?:calculation|computation|arithmetic|algebra|result|answer(?! choice)|sum|product|sign|logic"
    r"|steps?|work|math|total|counting|reasoning)"
)
_THIS = (
    rf"(?:that|this|it|something|my (?:\w{{1,16}} ){{0,2}}\w{{1,16}}"
    rf"|(?:the|my) (?:previous|earlier|above|last|first) \w{{1,16}}(?: of the \w{{1,16}})?"
    rf"|th(?:at|is|e) {_WORK})"
)
_WRONG = (
    r"(?: \w{4,10}ly| still| also| just| quite)?"
    r" (?:wrong|incorrect|mistaken|an error|a mistake|off|not(?: quite| entirely| \w{4,10}ly)?"
    r" (?:right|correct|true|what (?:I|we|the)))(?=\W{0,2}(?:$|[.,;:!?—–\n]|\W(?:because|since|as"
    r"|then|here|again|too|either|somewhere|by|problem|question|asked)\b|(?:I|we|the)\b))"
)
_REDO = (
    r"(?:(?:double|cross|sanity)[- ]?check|backtrack|start (?:over|again|afresh|from scratch)"
    r"|re-?(?:check|verif|comput|calculat|count|do\b|read|think|consider|examin|evaluat|visit|trac"
    r"|start|assess|deriv|work\b|try\b)|(?:think|try|look|check|start) again|step back"
    r"|go back and|(?:correct|fix) (?:that|this|it|my))"
)
_EARLIER = (
    rf"(?:that\b(?! the| each| every)|this\b|my\b|our\b|it\b|again\b|once more"
    rf"|for (?:errors|mistakes)|(?:if|whether|that) (?:that|this|I|my|everything|all)\b"
    rf"|the (?:\w{{1,16}} )?(?:{_WORK}|previous|earlier)\b|with (?:the|a|an|some|small|actual)\b)"
)
_LET_ME = (
    r"let(?:'s| me| us) (?:just |quickly |also |now |first |actually |carefully |try (?:to|and) )*+"
)

_HALTS = (
    rf"(?:wait|hold on|hang on|hold up)(?:{_STOP}|\s(?:no|nope|but|so|a (?:minute|second|moment)"
    r"|actually|if|that|this|is|are|I|the|what|let|because|since|did|does|do|how|why|when|maybe"
    r"|perhaps|not|we|it|there|hmm+|you|in|now|then|or|can|should|my|earlier|wait|hold on)\b)",
    r"not so fast\b",
    r"(?:scratch|strike|ignore|disregard|forget) (?:that|this|it)\b",
    r"never ?mind\b",
    rf"(?:oops|whoops|sorry|my (?:mistake|bad|apologies)|correction){_STOP}",
    r"(?:start(?:ing)? over|back to square one|going back (?:and|to (?:check|fix|correct)))\b",
)
_DENIALS = (
    rf"{_THIS}{_IS}{_WRONG}",
    rf"{_THIS} {_NOT}(?: (?:seem|look|be|sound|make|feel|quite|really|even|to be|to))*+"
    r" (?:right|correct|sense|true|match|add up|agree)\b",
    rf"{_THIS} (?:contradicts|disagrees with|conflicts with)"
    r" (?:what (?:I|we)|my|the (?:earlier|previous))\b",
    rf"{_THIS} (?:can't|cannot) be(?:{_STOP})",
    r"actually,? (?:no(?=[,.!])|I (?:see|meant)\b)",
    r"no,? (?:not|I meant)\b",
    r"(?:the|my) mistake (?:is|was|must be|lies)\b",
    r"oh,? (?:I see|no|right|I (?:forgot|missed|didn't))\b",
    r"ah,? (?:I see|right)\b",
)
_ADMISSIONS = (
    r"(?:there(?:'s| is| must be)|I see) (?:a|an|my|the) (?:mistake|error|flaw|slip)\b",
    r"I(?:'ve| have)? (?:(?:think|see|realized?) (?:that )?(?:I|I've) |must have |may have |might"
    r" have |probably |just |actually |clearly )*+(?:ma[dk]e (?:a|an|some|the) (?:\w{1,16} )?"
    r"(?:mistake|error|slip)|was (?:wrong|mistaken|confus|overcount|double)"
    r"|am (?:wrong|confus|overcount|missing)|(?:mis|mix|mess)\w{2,16}|forgot|overlooked"
    r"|(?:over|under|double-?)counted|assumed"
    r"|got (?:that|this|it|the \w{1,12}) wrong|should have \w{1,12}(?:ed|en)\b)",
    r"I realized? (?:that )?(?:I|my)\b",
    rf"I (?:should|must|will|need to|have to|ought to|want to)(?: also| probably)? {_REDO}",
    rf"I'(?:m going to|ll|d better)(?: just)? {_REDO}",
    rf"(?:I )?(?:should|better) {_REDO}",
    r"(?:I think )?I(?:'m| am| might be| may be) (?:not sure (?:that|this|if (?:that|this|my))"
    r"|confus|overcomplicat|overthink|mixing)",
)
_CHECKS = (
    rf"{_LET_ME}(?:{_REDO}|verify|confirm|make sure|check(?: \w{{1,9}})?? {_EARLIER}"
    r"|check(?=[.:,]|$)|see (?:if|whether) (?:that|this|it)(?:'s| is| was)? (?:right|correct"
    r"|make))",
    rf"{_LET_ME}(?:go|look|count|read|calculate|compute|do|think|list|add|run|work|plug)"
    r"\b[^.!?\n]{1,60}? (?:again|once more|to (?:make|be) sure|to (?:double-?)?check|to verify)\b",
    rf"to (?:{_REDO}|verify|confirm|be sure|make sure|check)(?:,| {_EARLIER})",
    r"(?:(?:sanity|quick|double|final)[- ]?check|(?:double-|re-?)?checking|verif(?:y|ying|ication)"
    rf"|check)(?:{_STOP}| (?:again|this|that|my|the (?:answer|result))\b)",
    r"(?:is|was) (?:that|this|it) (?:really |even |actually )?(?:right|correct|true)\b",
    r"does (?:that|this|it) (?:make sense|check out|match|add up|look right)",
    r"(?:am|are) (?:I|we) (?:sure|certain|missing|overlooking|overcomplicating|overthinking|misr)",
    r"(?:did|have) (?:I|we) (?:\w{1,12} ){0,2}?(?:ma[dk]e|miss|forg|mis|get|got|count|use|double"
    r"|include|consider)",
    r"(?:where did I go|what did I (?:do|get)) wrong",
)
_CHINESE = (
    r"等等|等一下|等下|且慢|慢着|稍等|不对(?![称等应齐])|错了|哦不|不不|不[，,。！]",
    r"(?:让我|我们|我|再|需要|应该|来){0,3}重新(?:检查|计算|算|考虑|验证|思考|看|审视)",
    r"(?:让我|我们|我|再|需要|应该|来){1,3}(?:仔细|重新)?(?:检查|验证|核对|验算|确认)",
    r"(?:我|刚才|前面|之前|上面|这里|好像|似乎){1,3}(?:可能|是不是|应该|肯定|也)?[弄搞算看想写数]?(?:错|漏|不对|有误)",
    r"[算弄搞看写]错|更正|这(?:显然|肯定|好像)?(?:不对(?![称等应齐])|有问题|错)",
)


def _compile(*groups: tuple[str, ...]) -> re.Pattern[str]:
    """One pattern: hesitation, then any of the ways to correct oneself."""
    ways = "|".join(way for group in groups for way in group)
    # Models write both kinds of apostrophe.
    return re.compile(rf"(?:{_FILLER}){{0,4}}(?:{ways})".replace("'", "['’]"), re.IGNORECASE)


_CORRECTION = _compile(_HALTS, _DENIALS, _ADMISSIONS, _CHECKS, _CHINESE)
_HESITATION = re.compile(
    r"(?:(?:hm+|huh|oh|ah|uh|um|no|well|ok|okay|so|now|yes|yeah|alright|right|good|great|but|then|and"
    r"|let me (?:see|think)|let['’]s see|让我想想|嗯+|好的?|那么?)"
    r"(?![A-Za-z])[\s,.!?…:;，。、—–-]{0,6}+){1,6}",
    re.IGNORECASE,
)
_TURN = re.compile(
    r"(?:(?:But|And|Oh|OK|Okay|Yeah|Yes|So|Ah|Alright|Right|Well|Now|Hmm+),? )?"
    r"(?i:wait|hm+|hold on|actually|alternatively|let(?:['’]s| me| us)|so|now|therefore|thus|hence"
    r"|first(?:ly)?|second(?:ly)?|third|next|then|finally|another|maybe|perhaps|however|but|ok|okay"
    r"|alright|similarly|suppose|assume|case|since|if|what if|or|in (?:conclusion|summary)"
    r"|on the other hand|to (?:find|solve|see)|we need|I (?:need|think|can|should)|step \d{1,3}"
    r"|the (?:final )?answer)\b"
    r"|等等|等一下|不对|那么|所以|因此|但|另外|首先|其次|然后|接下来|让我|或者|不过|现在|于是|综上|最后"
)


def is_correction(text: str, at: int = 0) -> bool:
    """Whether the sentence that begins at ``at`` takes back or checks earlier work."""
    return _CORRECTION.match(text, at) is not None


def is_turn(text: str, at: int = 0) -> bool:
    """Whether the sentence that begins at ``at`` turns to something new."""
    return _TURN.match(text, at) is not None


def is_hesitation(text: str) -> bool:
    """Whether the text is hesitation and no more: "Okay. Hmm, so"."""
    return _HESITATION.fullmatch(text.strip()) is not None
