"""One encoder for trainer and scorer: token ids, step ends, and what it refuses."""

import dataclasses

import pytest
import torch
from tokenizers.processors import TemplateProcessing

from prm.errors import EncodingError, TooLongError
from prm.scoring import Scorer, ScorerSpec
from prm.scoring.encoding import Encoded, Encoder
from prm.scoring.model import StepScoringModel
from prm.scoring.prefix_tree import PrefixTree, TreeBatch, collate
from prm.store import StoreWriter
from prm.training import train_prm
from prm.training.prm_data import read_examples
from tests.tiny import BOS, tiny_labelled, tiny_problem, tiny_tokenizer

PROBLEM = "Calculate 3 + 9 + 4."
STEPS = ["Step 1: 3 + 9 = 12", "Step 2: 12 + 4 = 16", "Answer: 16"]


def encoder(words=(), **changes):
    return Encoder(tiny_tokenizer(words), ScorerSpec(base_model="tiny", **changes))


def test_the_tokens_are_those_of_the_text():
    encoded = encoder().encode(PROBLEM, STEPS)
    text = tiny_tokenizer(()).decode(encoded.ids)
    assert text == f"Problem: {PROBLEM}\n" + "".join(f"{step}\n" for step in STEPS)


def test_template_and_separator_are_those_of_the_spec():
    ours = encoder(template="<{problem}>", separator=" ;;")
    encoded = ours.encode(PROBLEM, STEPS[:2])
    text = ours.tokenizer.decode(encoded.ids)
    assert text == f"<{PROBLEM}>{STEPS[0]} ;;{STEPS[1]} ;;"


def test_a_step_ends_at_the_last_token_of_its_separator():
    ours = encoder(separator=" ;;")
    encoded = ours.encode(PROBLEM, STEPS)
    assert len(encoded.step_ends) == len(STEPS)
    assert encoded.step_ends[-1] == len(encoded.ids) - 1
    for i, end in enumerate(encoded.step_ends):
        until = ours.tokenizer.decode(encoded.ids[: end + 1])
        assert until == f"Problem: {PROBLEM}\n" + "".join(f"{step} ;;" for step in STEPS[: i + 1])


def test_step_ends_by_hand():
    # Two tokens of prompt, then steps of 1, 3 and 2 tokens: they end at 2, 5 and 7.
    assert Encoded((7, 7), ((1,), (2, 3, 4), (5, 6))).step_ends == (2, 5, 7)


def test_steps_are_tokenized_apart():
    """This tokenizer reads a line break with the word behind it as one token."""
    ours = encoder(words=("\nStep", "\nAnswer"))
    encoded = ours.encode(PROBLEM, STEPS)
    apart = [ours.tokenizer(f"{step}\n")["input_ids"] for step in STEPS]
    assert [list(step) for step in encoded.steps] == apart
    whole = ours.tokenizer(f"Problem: {PROBLEM}\n" + "\n".join(STEPS) + "\n")["input_ids"]
    assert len(whole) < len(encoded.ids)  # the tokenizer would have merged them


def test_a_later_step_changes_no_earlier_token():
    ours = encoder(words=("\nStep", "\nAnswer"))
    whole = ours.encode(PROBLEM, STEPS)
    for count in (1, 2):
        part = ours.encode(PROBLEM, STEPS[:count])
        assert whole.ids[: len(part.ids)] == part.ids
        assert whole.step_ends[:count] == part.step_ends


def test_special_tokens_stand_before_the_problem_and_nowhere_else():
    ours = encoder()
    begin = ours.tokenizer.convert_tokens_to_ids(BOS)
    ours.tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{BOS} $A", special_tokens=[(BOS, begin)]
    )
    assert ours.tokenizer("a")["input_ids"][0] == begin
    encoded = ours.encode(PROBLEM, STEPS)
    assert encoded.prompt[0] == begin
    assert encoded.ids.count(begin) == 1


def test_a_problem_that_speaks_of_its_slot_is_left_alone():
    ours = encoder()
    assert "{problem} {0} %s" in ours.tokenizer.decode(ours.encode("{problem} {0} %s", ["a"]).ids)


def test_blanks_and_cut_pieces_of_a_step_are_kept():
    ours = encoder()
    assert ours.tokenizer.decode(ours.encode(PROBLEM, ["  a  "]).steps[0]) == "  a  \n"


@pytest.mark.parametrize(
    ("problem", "steps", "words"),
    [
        (PROBLEM, [], ("has no steps",)),
        (PROBLEM, (), ("has no steps",)),
        (PROBLEM, "Step 1: 3 + 9 = 12", ("has no steps", "list of step texts")),
        (PROBLEM, ["a", "", "b"], ("step 1 is empty",)),
        (PROBLEM, ["a", "b", " \t"], ("step 2 is empty",)),
        (PROBLEM, ["a", "b\nc"], ("step 1 contains the separator '\\n'", "b\\nc")),
        ("", ["a"], ("the problem is empty",)),
        (" \n", ["a"], ("the problem is empty",)),
    ],
)
def test_what_has_no_score_is_refused_by_solution_and_step(problem, steps, words):
    with pytest.raises(EncodingError) as error:
        encoder().encode(problem, steps, where="tiny/0003#1")
    assert all(word in str(error.value) for word in ("tiny/0003#1", *words)), str(error.value)


def test_too_long_is_an_error_with_both_lengths_and_nothing_is_cut():
    length = len(encoder().encode(PROBLEM, STEPS).ids)
    assert len(encoder(max_tokens=length).encode(PROBLEM, STEPS).ids) == length
    with pytest.raises(TooLongError, match=f"tiny/0003#1: {length} tokens.* {length - 1};"):
        encoder(max_tokens=length - 1).encode(PROBLEM, STEPS, where="tiny/0003#1")


def test_the_separator_is_that_of_the_spec_also_in_errors():
    assert encoder(separator=" ;;").encode(PROBLEM, ["two\nlines"]).steps
    with pytest.raises(EncodingError, match="';;'"):
        encoder(separator=";;").encode(PROBLEM, ["a;;b"])


class Fed:
    """Notes what a step scoring model is given: the token ids that each score can see."""

    def __init__(self, model: StepScoringModel) -> None:
        self.seen: set[tuple[tuple[int, ...], int]] = set()
        self.num_batches = 0
        model.register_forward_pre_hook(lambda _, given: self._note(given[0]))

    def _note(self, batch: TreeBatch) -> None:
        self.num_batches += 1
        for row, nodes in enumerate(batch.is_node_BN):
            for node in nodes.nonzero()[:, 0]:
                end = batch.node_end_BN[row, node]
                visible = batch.visible_BUU[row, end].nonzero()[:, 0]
                # In the order of their positions, not of the row.
                order = visible[batch.positions_BU[row, visible].argsort()]
                ids = tuple(batch.ids_BU[row, order].tolist())
                self.seen.add((ids, int(batch.positions_BU[row, end])))


# peft asks transformers under an old name.
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_trainer_and_scorer_feed_the_same_ids_and_step_ends(tmp_path, tiny_folder):
    """A step of the real trainer and a call of the real scorer, watched at the model's door."""
    problems = [tiny_problem(n, (n, 9, 4)) for n in range(5)]
    labelled = [row for problem in problems for row in labelled_solutions(problem)]
    config = train_prm.TrainPRMConfig(
        labelled=stored(tmp_path / "labelled", labelled),
        problems=stored(tmp_path / "problems", problems),
        output=str(tmp_path / "run"),
        model=str(tiny_folder),
        problems_per_step=len(problems),
        max_steps=1,
        dtype="float32",
        device="cpu",
        report_to="none",
    )
    spec = train_prm._spec(config)
    own = Encoder(tiny_tokenizer(), spec)
    data = read_examples(config.labelled, config.problems, own, splits=["train"], labels="counts")
    assert data.num_out == len(labelled)
    trainer = train_prm._trainer(config, train_prm._arguments(config), data, config.model, spec)
    by_trainer = Fed(trainer.scoring)
    trainer.train()
    assert by_trainer.num_batches == 1

    model = StepScoringModel(trainer.scoring.backbone, spec)
    by_scorer = Fed(model)
    scorer = Scorer(model, tiny_tokenizer(), spec)
    statements = {problem.id: problem.statement for problem in problems}
    items = [(statements[r.solution.problem_id], r.solution.steps) for r in labelled]
    scorer.score_batch(items)

    expected = set()
    for statement, steps in items:
        encoded = own.encode(statement, steps)
        expected |= {(encoded.ids[: end + 1], end) for end in encoded.step_ends}
    assert by_trainer.seen == by_scorer.seen == expected


def labelled_solutions(problem):
    """Three solutions that share steps, one of them a beginning of another."""
    texts = [STEPS, [*STEPS[:1], "Step 2: 12 + 4 = 17", "Answer: 17"], STEPS[:2]]
    rows = [tiny_labelled(problem, steps, None, k) for k, steps in enumerate(texts)]
    return [tried(row) for row in rows]


def tried(row):
    """The row with two successes in three trials at each step."""
    labels = [dataclasses.replace(one, successes=2, trials=3, hard=True) for one in row.labels]
    return dataclasses.replace(row, labels=tuple(labels))


def stored(folder, rows):
    with StoreWriter(folder, job="test", config={}, config_hash="0") as writer:
        writer.append("all", rows)
    return str(folder)


def test_watching_would_see_a_leak():
    """The control: with one key of a sibling made visible, the watched ids differ."""
    own = encoder()
    tree = PrefixTree.of([own.encode(PROBLEM, ["a", "b"]), own.encode(PROBLEM, ["a", "c"])])
    batch = collate([tree])
    clean, leaky = Fed(torch.nn.Identity()), Fed(torch.nn.Identity())
    clean._note(batch)
    last = tree.node_end[tree.paths[1][-1]]
    batch.visible_BUU[0, last, tree.node_end[tree.paths[0][-1]]] = True
    leaky._note(batch)
    assert clean.seen != leaky.seen
