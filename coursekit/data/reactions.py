"""Chemical reactions as text: the language of the small pretrained ALBERT.

SMILES writes a molecule as a line: `CCO` is ethanol, `c1ccccc1` benzene, `.` stands between molecules, `~` between the
ions of one salt, `>>` between what reacts and what comes out.
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor

# Reactions of the textbooks: what reacts (with what helps it) and the product.
REACTIONS = {
    "Fischer esterification": "CC(=O)O.CCO>>CCOC(C)=O",
    "aspirin": "CC(=O)OC(C)=O.O=C(O)c1ccccc1O>>CC(=O)Oc1ccccc1C(=O)O",
    "paracetamol": "CC(=O)OC(C)=O.Nc1ccc(O)cc1>>CC(=O)Nc1ccc(O)cc1",
    "saponification": "CCOC(=O)c1ccccc1.[Na+]~[OH-]>>O=C(O)c1ccccc1",
    "Williamson ether": "BrCc1ccccc1.Oc1ccccc1.O=C([O-])[O-]~[K+]~[K+]>>c1ccc(COc2ccccc2)cc1",
    "Suzuki coupling": "Brc1ccccc1.COc1ccc(B(O)O)cc1.O=C([O-])[O-]~[Na+]~[Na+]>>COc1ccc(-c2ccccc2)cc1",
    "amide from an acid chloride": "O=C(Cl)c1ccccc1.NCc1ccccc1.CCN(CC)CC>>O=C(NCc1ccccc1)c1ccccc1",
    "nitration": "Cc1ccccc1.O=[N+]([O-])O>>Cc1ccc([N+](=O)[O-])cc1",
    "reduction of a nitro group": "CO.COc1ccc([N+](=O)[O-])cc1.[H][H].[Pd]>>COc1ccc(N)cc1",
    "borohydride reduction": "CO.O=C(c1ccccc1)c1ccccc1.[BH4-]~[Na+]>>OC(c1ccccc1)c1ccccc1",
    "Grignard reaction": "C1CCOC1.CC(C)=O.Br[Mg]c1ccccc1>>CC(C)(O)c1ccccc1",
    "aldol condensation": "CC(=O)c1ccccc1.O=Cc1ccccc1.[Na+]~[OH-]>>O=C(C=Cc1ccccc1)c1ccccc1",
    "Wittig reaction": "O=Cc1ccccc1.C=P(c1ccccc1)(c1ccccc1)c1ccccc1>>C=Cc1ccccc1",
    "reductive amination": "O=Cc1ccccc1.C1CCNCC1.CC(=O)O[BH-](OC(C)=O)OC(C)=O~[Na+]>>c1ccc(CN2CCCCC2)cc1",
    "Boc protection": "CC(C)(C)OC(=O)OC(=O)OC(C)(C)C.NCc1ccccc1.ClCCl>>CC(C)(C)OC(=O)NCc1ccccc1",
    "Boc removal": "CC(C)(C)OC(=O)NCc1ccccc1.O=C(O)C(F)(F)F.ClCCl>>NCc1ccccc1",
    "aromatic substitution": "O=[N+]([O-])c1ccc(F)cc1.C1COCCN1.CS(C)=O>>O=[N+]([O-])c1ccc(N2CCOCC2)cc1",
    "sulfonamide": "Cc1ccc(S(=O)(=O)Cl)cc1.Nc1ccccc1.c1ccncc1>>Cc1ccc(S(=O)(=O)Nc2ccccc2)cc1",
    "benzylic bromination": "COC(=O)c1ccc(C)cc1.O=C1CCC(=O)N1Br.ClC(Cl)(Cl)Cl>>COC(=O)c1ccc(CBr)cc1",
    "Sonogashira coupling": "Ic1ccccc1.C#Cc1ccccc1.CCN(CC)CC.[Cu]I>>C(#Cc1ccccc1)c1ccccc1",
}
# A bracketed atom, an atom of two letters, the arrow, a ring number of two digits, or any one character.
_TOKEN = re.compile(r"\[[^\]]+\]|Br|Cl|>>|%\d\d|.")


class ReactionTokenizer:
    """SMILES to ids by a regular expression and a vocabulary (Schwaller et al. 2019, 2021), and back.

    Takes a `vocab.txt`, or a folder with one. Attributes: `pad_id mask_id cls_id sep_id unk_id`, `special_ids`,
    `vocab_size`. Raises FileNotFoundError for no such file, ValueError for one that lacks a special token.
    """

    def __init__(self, folder_or_file: Path | str) -> None:
        path = Path(folder_or_file)
        file = path / "vocab.txt" if path.is_dir() else path
        if not file.is_file():
            raise FileNotFoundError(f"no vocabulary at {file}: expected a vocab.txt or a folder with one")
        self._tokens = file.read_text(encoding="utf-8").splitlines()
        self._ids = {token: number for number, token in enumerate(self._tokens)}
        names = ("[PAD]", "[MASK]", "[CLS]", "[SEP]", "[UNK]")
        if missing := [name for name in names if name not in self._ids]:
            raise ValueError(f"the vocabulary {file} has no {' '.join(missing)}")
        self.pad_id, self.mask_id, self.cls_id, self.sep_id, self.unk_id = (self._ids[name] for name in names)
        self.special_ids = tuple(sorted(self._ids[name] for name in names))
        self.vocab_size = len(self._tokens)

    def encode(self, reactions: Iterable[str]) -> list[list[int]]:
        """Ids of each reaction, [CLS] before and [SEP] after it; [UNK] for what the vocabulary lacks.

        Raises ValueError if a reaction is not a string.
        """
        if isinstance(reactions, str):
            raise ValueError("reactions must be a list of strings, got one string; write [reaction]")
        encoded = []
        for number, reaction in enumerate(reactions):
            if not isinstance(reaction, str):
                raise ValueError(f"reactions[{number}] must be a string, got {type(reaction).__name__}")
            ids = [self._ids.get(token, self.unk_id) for token in _TOKEN.findall(reaction)]
            encoded.append([self.cls_id, *ids, self.sep_id])
        return encoded

    def tokens(self, ids: Sequence[int]) -> list[str]:
        """The vocabulary's token for each id. Raises ValueError for an id outside the vocabulary."""
        for i in ids:
            if not 0 <= i < self.vocab_size:
                raise ValueError(f"id {i} is outside the vocabulary of {self.vocab_size}")
        return [self._tokens[i] for i in ids]


def mask_each(ids: Sequence[int], mask_id: int) -> tuple[Tensor, Tensor, Tensor]:
    """Every token between the first and the last hidden once, the others in sight: a model's best case.

    ids: T of them, [CLS] first and [SEP] last. Returns input_ids (T − 2, T) with one mask a row, where it stands as
    positions (T − 2, T) bool, and the right ids (T − 2,). Raises ValueError for fewer than 3 ids.
    """
    if len(ids) < 3:
        raise ValueError(f"a sequence needs a token between its ends to be masked, got {len(ids)} ids")
    input_ids = torch.tensor(ids).repeat(len(ids) - 2, 1)
    positions = torch.eye(len(ids), dtype=torch.bool)[1:-1]
    labels = input_ids[positions]
    return input_ids.masked_fill(positions, mask_id), positions, labels
