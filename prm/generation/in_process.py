"""A generator in this process: any causal model of transformers, on CPU or GPU.

The prompts' common prefix is encoded once and kept for the next call; each prompt is encoded once
whatever ``n`` is; rows that have ended leave the batch. For servers use the OpenAI-compatible
client: same protocol.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from prm.attention import check_plain_attention
from prm.device import choose_device, choose_dtype
from prm.errors import GenerationError
from prm.generation import forked_attention
from prm.generation.forked_attention import ForkedCache
from prm.libraries import load_tokenizer
from prm.protocols import Chat, Generation, Prompt, SamplingParams, Token

# A stop string is looked for in the text of this many last tokens, or more if it is longer.
_TAIL_TOKENS = 12


@dataclasses.dataclass
class _Row:
    """One text that is being written."""

    prompt: int
    prompt_tokens: int
    ids: list[int] = dataclasses.field(default_factory=list)
    logprob: float = 0.0
    tokens: list[Token] = dataclasses.field(default_factory=list)
    finish_reason: str = ""


class TransformersGenerator:
    """Writes texts with a causal language model of transformers.

    Sampling is seeded by the call: the same prompts, parameters and seed give the same texts on
    the same machine with the same number of threads.
    """

    def __init__(
        self, model: Any, tokenizer: Any, *, name: str = "model", max_rows: int = 128
    ) -> None:
        """``max_rows`` texts at most are written side by side; it bounds the memory."""
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.name = name
        self.max_rows = max_rows
        check_plain_attention(name, self.model.config)
        self.model.set_attn_implementation(forked_attention.NAME)
        self._ends = _end_tokens(self.model, tokenizer)
        self._words: dict[int, str] = {}
        self._prefix_ids: tuple[int, ...] = ()
        self._prefix_cache = ForkedCache(0)

    @classmethod
    def from_pretrained(
        cls,
        path: str,
        *,
        device: str | None = None,
        dtype: str | None = None,
        max_rows: int = 128,
    ) -> TransformersGenerator:
        """Load a folder or a hub id."""
        where = choose_device(device)
        tokenizer = load_tokenizer(path)
        model = AutoModelForCausalLM.from_pretrained(
            path,
            dtype=choose_dtype(dtype, where),
            use_safetensors=True,
            trust_remote_code=False,
        )
        name = os.path.basename(os.path.normpath(path))
        return cls(
            model.to(where),  # type: ignore[arg-type]
            tokenizer,
            name=name,
            max_rows=max_rows,
        )

    @torch.inference_mode()
    def generate(
        self, prompts: Sequence[Prompt], params: SamplingParams, *, seed: int
    ) -> list[list[Generation]]:
        """``params.n`` texts for each prompt, in order.

        Raises:
            GenerationError: a prompt is empty, or a `Chat` and the tokenizer has no chat template.
        """
        if not prompts:
            return []
        ids = [self._encode(prompt) for prompt in prompts]
        num_shared = self._keep_prefix(ids)
        source = torch.Generator(device=self.model.device).manual_seed(seed)
        per_chunk = max(1, self.max_rows // params.n)
        texts: list[list[Generation]] = []
        for begin in range(0, len(ids), per_chunk):
            chunk = [row[num_shared:] for row in ids[begin : begin + per_chunk]]
            texts.extend(self._generate_chunk(chunk, num_shared, params, source))
        return texts

    def _encode(self, prompt: Prompt) -> list[int]:
        if isinstance(prompt, Chat):
            # The chat template has written the special tokens.
            encoded = self.tokenizer(self._written(prompt), add_special_tokens=False)
        else:
            encoded = self.tokenizer(prompt, add_special_tokens=True)
        ids: list[int] = encoded["input_ids"]
        if not ids:
            raise GenerationError("an empty prompt cannot be continued; give the model some text")
        return ids

    def _written(self, chat: Chat) -> str:
        """The conversation as the text that the model continues."""
        if not self.tokenizer.chat_template:
            raise GenerationError(
                f"the tokenizer of {self.name!r} has no chat template, so it cannot answer a "
                "conversation; use a strategy of kind text, or a model made for chat"
            )
        turns = [dataclasses.asdict(message) for message in chat.messages]
        text: str = self.tokenizer.apply_chat_template(
            turns, add_generation_prompt=True, tokenize=False
        )
        return text + chat.prefix

    def _keep_prefix(self, ids: list[list[int]]) -> int:
        """Encode the tokens that all prompts begin with, once; returns their number."""
        shared = _common_prefix(ids)
        if tuple(shared) != self._prefix_ids:
            self._prefix_ids = tuple(shared)
            self._prefix_cache = ForkedCache(len(shared))
            if shared:
                tokens = torch.tensor([shared], device=self.model.device)
                self._forward(self._prefix_cache, tokens, torch.ones_like(tokens), 0)
                self._prefix_cache.freeze_as_prefix()
        return len(shared)

    def _forward(self, cache: ForkedCache, ids_BT: Tensor, mask_BT: Tensor, offset: int) -> Tensor:
        """The last hidden state of each row, [B, hidden]; ``offset`` positions precede the row."""
        seen = cache.visible_BS.sum(1, keepdim=True) if cache.visible_BS is not None else 0
        cache.begin(mask_BT.bool())
        position_BT = (mask_BT.cumsum(1) - 1).clamp(min=0) + seen + offset
        out = self.model.model(
            input_ids=ids_BT, position_ids=position_BT, use_cache=False, fork=cache
        )
        last: Tensor = out.last_hidden_state[:, -1]
        return last

    def _generate_chunk(
        self,
        prompts: list[list[int]],
        num_shared: int,
        params: SamplingParams,
        source: torch.Generator,
    ) -> list[list[Generation]]:
        """Texts for prompts that all follow the kept prefix."""
        ids_BT, mask_BT = _pad_left(prompts, self.tokenizer.pad_token_id or 0, self.model.device)
        cache = ForkedCache(ids_BT.shape[1] + params.max_tokens).fork(self._prefix_cache)
        hidden = self._forward(cache, ids_BT, mask_BT, num_shared)
        copies = torch.arange(len(prompts), device=hidden.device).repeat_interleave(params.n)
        cache.select(copies)
        hidden = hidden.index_select(0, copies)
        rows = [_Row(int(i), num_shared + len(prompts[int(i)])) for i in copies]
        live = rows
        for _ in range(params.max_tokens):
            ids_B = self._pick(live, hidden, params, source)
            keep = [i for i, row in enumerate(live) if not self._has_ended(row, params)]
            if not keep:
                break
            if len(keep) < len(live):
                index = torch.tensor(keep, device=hidden.device)
                live, ids_B = [live[i] for i in keep], ids_B[index]
                cache.select(index)
            hidden = self._forward(
                cache, ids_B[:, None], torch.ones_like(ids_B)[:, None], num_shared
            )
        return self._results(rows, len(prompts), params)

    def _pick(
        self, rows: list[_Row], hidden: Tensor, params: SamplingParams, source: torch.Generator
    ) -> Tensor:
        """Draw the next token of each row and note it."""
        logits: Tensor = self.model.lm_head(hidden).float()
        logprobs = torch.log_softmax(logits, dim=-1)
        if params.temperature == 0:
            ids_B: Tensor = logits.argmax(-1)
        else:
            ids_B = _sample(logits / params.temperature, params.top_p, source)
        chosen = logprobs.gather(1, ids_B[:, None])[:, 0].tolist()
        tops = logprobs.topk(params.top_logprobs) if params.top_logprobs else None
        for i, (row, token, logprob) in enumerate(zip(rows, ids_B.tolist(), chosen, strict=True)):
            row.ids.append(token)
            row.logprob += logprob
            if tops is not None:
                words = [self._word(t) for t in tops.indices[i].tolist()]
                top = dict(zip(words, tops.values[i].tolist(), strict=True))
                row.tokens.append(Token(self._word(token), logprob, top))
        return ids_B

    def _word(self, token: int) -> str:
        """The text of one token."""
        if token not in self._words:
            self._words[token] = self.tokenizer.decode([token])
        return self._words[token]

    def _has_ended(self, row: _Row, params: SamplingParams) -> bool:
        if row.ids[-1] in self._ends:
            row.finish_reason = "stop"
        elif params.stop:
            # A token is a byte at least; one more, as some tokenizers strip the first's blank.
            longest = max(len(stop.encode()) for stop in params.stop) + 1
            tail = self.tokenizer.decode(row.ids[-max(_TAIL_TOKENS, longest) :])
            if any(stop in tail for stop in params.stop):
                row.finish_reason = "stop"
        return bool(row.finish_reason)

    def _results(
        self, rows: list[_Row], num_prompts: int, params: SamplingParams
    ) -> list[list[Generation]]:
        results: list[list[Generation]] = [[] for _ in range(num_prompts)]
        for row in rows:
            text = self.tokenizer.decode(row.ids, skip_special_tokens=True)
            ends = [text.find(stop) for stop in params.stop if stop in text]
            results[row.prompt].append(
                Generation(
                    text=text[: min(ends)] if ends else text,
                    finish_reason=row.finish_reason or "length",
                    prompt_tokens=row.prompt_tokens,
                    generated_tokens=len(row.ids),
                    logprob=row.logprob,
                    tokens=tuple(row.tokens),
                )
            )
        return results


def _end_tokens(model: Any, tokenizer: Any) -> set[int]:
    """All tokens that end a text: a model may have several."""
    configured = getattr(model.generation_config, "eos_token_id", None)
    several = configured if isinstance(configured, list) else [configured]
    return {token for token in (tokenizer.eos_token_id, *several) if token is not None}


def _common_prefix(rows: list[list[int]]) -> list[int]:
    """What all rows begin with, but at most all but the last token of the shortest."""
    first, last = min(rows), max(rows)
    length = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), None)
    shortest = min(map(len, rows)) - 1
    return first[: shortest if length is None else min(length, shortest)]


def _pad_left(rows: list[list[int]], pad: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Token ids [B, T] and their mask, padded on the left so that all rows end together."""
    width = max(len(row) for row in rows)
    ids = [[pad] * (width - len(row)) + row for row in rows]
    mask = [[0] * (width - len(row)) + [1] * len(row) for row in rows]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)


def _sample(logits: Tensor, top_p: float, source: torch.Generator) -> Tensor:
    """One token a row, [B], from the (nucleus of the) distribution of the logits [B, V].

    By inversion: one random number a row. ``torch.multinomial`` draws one a vocabulary entry,
    which was half of the time of a decoding step on CPU.
    """
    probs = torch.softmax(logits, dim=-1)
    if top_p < 1:
        ordered, order = probs.sort(dim=-1, descending=True)
        beyond = ordered.cumsum(-1) - ordered > top_p
        probs = probs.scatter(1, order, ordered.masked_fill(beyond, 0.0))
    below = probs.cumsum(-1)
    at = torch.rand((len(probs), 1), generator=source, device=probs.device) * below[:, -1:]
    return torch.searchsorted(below, at, right=True)[:, 0].clamp(max=probs.shape[1] - 1)
