"""Solutions of one problem as a tree of steps: each distinct prefix is encoded once.

A tree lies in one row of tokens: the problem, then the steps in depth-first order, so that every
step comes after all steps before it on its path. A token sees the problem, the steps on its
path, and its own step up to itself; its position is its depth. That gives the same scores as
encoding each solution apart (tests hold it to 1e-5). Several trees are packed into a row.

Shapes: B rows, U tokens a row, N steps (nodes) a row.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from prm.scoring.encoding import Encoded

ROOT = -1
PADDING = -2


@dataclasses.dataclass
class PrefixTree:
    """A row of tokens with the tree that lies in it. Nodes are distinct step prefixes."""

    ids: list[int] = dataclasses.field(default_factory=list)
    positions: list[int] = dataclasses.field(default_factory=list)
    node_of: list[int] = dataclasses.field(default_factory=list)
    """For each token: its node, ROOT for the tokens of a problem."""
    before: list[int] = dataclasses.field(default_factory=list)
    """For each token: the index of the token before it on its path (itself for the first)."""
    node_end: list[int] = dataclasses.field(default_factory=list)
    """For each node: the index of its last token."""
    ancestors: list[tuple[int, ...]] = dataclasses.field(default_factory=list)
    """For each node: the nodes of its path, itself last."""
    tree_of: list[int] = dataclasses.field(default_factory=list)
    """For each token: the number of its tree in the row."""
    paths: list[tuple[int, ...]] = dataclasses.field(default_factory=list)
    """For each solution, in order: the nodes of its steps."""

    @classmethod
    def of(cls, solutions: Sequence[Encoded]) -> PrefixTree:
        """The tree of solutions that share one problem."""
        tree = cls()
        tree._extend(solutions[0].prompt, ROOT, start=0, parent_end=0)
        prompt_end = len(tree.ids) - 1
        nodes: dict[tuple[tuple[int, ...], ...], int] = {}
        order = sorted(range(len(solutions)), key=lambda i: solutions[i].steps)
        paths: dict[int, tuple[int, ...]] = {}
        for index in order:
            path: tuple[int, ...] = ()
            for depth, step in enumerate(solutions[index].steps):
                prefix = solutions[index].steps[: depth + 1]
                if prefix not in nodes:
                    nodes[prefix] = len(tree.node_end)
                    end = tree.node_end[path[-1]] if path else prompt_end
                    tree._extend(step, nodes[prefix], tree.positions[end] + 1, end)
                    tree.node_end.append(len(tree.ids) - 1)
                    tree.ancestors.append((*path, nodes[prefix]))
                path = (*path, nodes[prefix])
            paths[index] = path
        tree.paths = [paths[i] for i in range(len(solutions))]
        return tree

    def _extend(self, ids: Sequence[int], node: int, start: int, parent_end: int) -> None:
        for offset, token in enumerate(ids):
            self.before.append(parent_end if offset == 0 else len(self.ids) - 1)
            self.ids.append(token)
            self.positions.append(start + offset)
            self.node_of.append(node)
            self.tree_of.append(0)

    def __len__(self) -> int:
        """Tokens in the row."""
        return len(self.ids)


def pack(trees: Sequence[PrefixTree], row_tokens: int) -> list[PrefixTree]:
    """Lay whole trees into rows of at most ``row_tokens`` (a longer tree has a row of its own).

    The order of trees, and of nodes and paths within the rows taken together, is kept.
    """
    rows: list[list[PrefixTree]] = []
    for tree in trees:
        if rows and sum(map(len, rows[-1])) + len(tree) <= row_tokens:
            rows[-1].append(tree)
        else:
            rows.append([tree])
    return [_join(row) for row in rows]


def _join(trees: list[PrefixTree]) -> PrefixTree:
    """One row with all trees; token and node numbers are shifted."""
    row = PrefixTree()
    for number, tree in enumerate(trees):
        token, node = len(row.ids), len(row.node_end)
        row.ids += tree.ids
        row.positions += tree.positions
        row.node_of += [n if n == ROOT else n + node for n in tree.node_of]
        row.before += [i + token for i in tree.before]
        row.node_end += [i + token for i in tree.node_end]
        row.ancestors += [tuple(n + node for n in path) for path in tree.ancestors]
        row.tree_of += [number] * len(tree)
        row.paths += [tuple(n + node for n in path) for path in tree.paths]
    return row


@dataclasses.dataclass(frozen=True, slots=True)
class TreeBatch:
    """Rows as tensors, padded on the right."""

    ids_BU: Tensor
    positions_BU: Tensor
    visible_BUU: Tensor
    """Whether the token of the second index may be seen by that of the first."""
    before_BU: Tensor
    node_of_BU: Tensor
    """The node of each token; ROOT for those of a problem, PADDING for padding."""
    node_end_BN: Tensor
    is_node_BN: Tensor
    on_path_BNN: Tensor
    """Whether the node of the second index lies on the path of the first (itself included)."""

    def to(self, device: torch.device) -> TreeBatch:
        """The batch on another device."""
        values = (getattr(self, field.name).to(device) for field in dataclasses.fields(self))
        return TreeBatch(*values)


def collate(rows: Sequence[PrefixTree], pad: int = 0) -> TreeBatch:
    """The rows as one batch."""
    width, nodes = max(map(len, rows)), max(len(row.node_end) for row in rows)
    node_of_BU = _padded([row.node_of for row in rows], width, PADDING)
    tree_BU = _padded([row.tree_of for row in rows], width, PADDING)
    on_path_BNN = torch.zeros((len(rows), nodes, nodes), dtype=torch.bool)
    for i, row in enumerate(rows):
        for node, path in enumerate(row.ancestors):
            on_path_BNN[i, node, list(path)] = True
    return TreeBatch(
        ids_BU=_padded([row.ids for row in rows], width, pad),
        positions_BU=_padded([row.positions for row in rows], width, 0),
        visible_BUU=_visible(node_of_BU, tree_BU, on_path_BNN),
        before_BU=_padded([row.before for row in rows], width, 0),
        node_of_BU=node_of_BU,
        node_end_BN=_padded([row.node_end for row in rows], nodes, 0),
        is_node_BN=_padded([[1] * len(row.node_end) for row in rows], nodes, 0).bool(),
        on_path_BNN=on_path_BNN,
    )


def _padded(values: Sequence[Sequence[int]], width: int, pad: int) -> Tensor:
    return torch.tensor([[*row, *[pad] * (width - len(row))] for row in values])


def _visible(node_of_BU: Tensor, tree_BU: Tensor, on_path_BNN: Tensor) -> Tensor:
    """[B, U, U]: same tree, not later, and a token of the problem or of a step on the path."""
    num_rows, width = node_of_BU.shape
    node = node_of_BU.clamp(min=0)
    rows = torch.arange(num_rows)[:, None, None]
    on_path = on_path_BNN[rows, node[:, :, None], node[:, None, :]]
    on_path &= (node_of_BU[:, :, None] >= 0) & (node_of_BU[:, None, :] >= 0)
    of_problem = (node_of_BU == ROOT)[:, None, :]
    same_tree = tree_BU[:, :, None] == tree_BU[:, None, :]
    index = torch.arange(width)
    visible = same_tree & (on_path | of_problem) & (index[None, :] <= index[:, None])
    # A padding token sees itself, so that no row of the softmax is empty.
    return visible | torch.eye(width, dtype=torch.bool)
