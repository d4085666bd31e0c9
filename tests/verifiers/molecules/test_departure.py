import random
import re

import pytest
from rdkit import Chem

from lit_symbolic.certificate import Problem
from lit_symbolic.verifiers.chemistry import ForwardSynthesisVerifier, MoleculeVerifier, RetrosynthesisVerifier
from lit_symbolic.verifiers.molecules.departure import departure
from lit_symbolic.verifiers.molecules.partial_match import TOKEN
from lit_symbolic.verifiers.molecules.reading import canonical, read_molecule

REFERENCES = [
    "CC(=O)Nc1ccc(O)cc1",
    "CC(C)(C)OC(=O)N1CCC(C(=O)NCc2ccccc2)CC1",
    "O=[N+]([O-])c1ccc(-c2ccncc2)c(F)c1",
    "C[C@H](NC(=O)OC(C)(C)C)C(=O)O.Nc1ccc(Cl)cc1",
    "COc1ccc2[nH]cc(CCN(C)C)c2c1",
    "N#Cc1ccsc1S(=O)(=O)N1CCOCC1",
    "FC(F)(F)c1ccc(B(O)O)cc1.Brc1cnc2ccccc2c1",
    "C1CC2CCC1C2.OC/C=C/c1ccccc1",
    "[Na+].[O-]C(=O)C1CC1.CC#CCO",
    "O=C1CCc2cccnc2N1C1CCCC1",
]
LETTERS = ["C", "N", "O", "c", "n", "F", "(", ")", "1", "2", "=", "#", ".", "[nH]", "S"]


def tokens(smiles):
    return [match[0] for match in TOKEN.finditer(smiles)]


def same(first, second):
    return set(canonical(first, False).split(".")) == set(canonical(second, False).split("."))


def written_at_random(smiles, seed, **settings):
    # RDKit's other way to random writings goes by what was written before in the process too.
    return Chem.MolToRandomSmilesVect(Chem.MolFromSmiles(smiles), 1, randomSeed=seed + 1, **settings)[0]


def spoiled(parts, rng):
    """Another list of tokens, one exchanged, left out or put in."""
    place, what = rng.randrange(len(parts)), rng.randrange(3)
    return [*parts[:place], *([rng.choice(LETTERS)] if what else []), *parts[place + (what != 2) :]]


def wrong_answers(reference, number, rng):
    """Writings of the reference, each with a valid wrong answer that begins like it."""
    found = []
    while len(found) < number:
        writing = written_at_random(reference, rng.randrange(10**6))
        text = "".join(spoiled(tokens(writing), rng))
        answer = read_molecule(text)
        if answer.valid and not same(answer.mol, Chem.MolFromSmiles(reference)):
            found.append((writing, answer))
    return found


@pytest.mark.parametrize("settings", [{}, {"kekuleSmiles": True}, {"allHsExplicit": True}, {"allBondsExplicit": True}])
def test_no_writing_of_the_reference_departs_from_it(settings):
    for reference in REFERENCES:
        for seed in range(8):
            answer = read_molecule(written_at_random(reference, seed, **settings))
            assert departure(answer, reference, as_set=True) is None
            assert departure(answer, reference) is None


def test_an_answer_departs_only_behind_what_it_shares_with_a_writing_of_the_reference():
    rng, at_once, count = random.Random(0), 0, 0
    for reference in REFERENCES:
        for writing, answer in wrong_answers(reference, 40, rng):
            found = departure(answer, reference, as_set=True)
            assert found is not None
            shared = 0
            for ours, theirs in zip(tokens(writing), tokens(answer.text), strict=False):
                if ours != theirs:
                    break
                shared += len(ours)
            assert found.start >= shared, (writing, answer.text)
            count += 1
            at_once += found.start == shared
    assert at_once >= 0.8 * count, "a departure is found where it is made"


@pytest.mark.parametrize(
    ("text", "reference"),
    [("Oc1ccc(NC(C)=O)c=c1", "CC(=O)Nc1ccc(O)cc1"), ("O1CCN(CC1)S(c1c(C#N)cc=s1)(=O)=O", "N#Cc1ccsc1S(=O)(=O)N1CCOCC1")],
)
def test_a_double_bond_between_small_letters_is_none_of_an_aromatic_ring(text, reference):
    found = departure(read_molecule(text), reference)
    assert text[found.start - 1] == "="


def test_a_hydrogen_that_is_written_stands_whatever_comes_behind_it():
    """RDKit takes it from the atom again."""
    text = "c1cc(OC)cc2c1[nH]=cc2CCN(C)C"
    assert departure(read_molecule(text), "COc1ccc2[nH]cc(CCN(C)C)c2c1").start == text.index("=") + 1


def said_at_once(answer):
    """Whether what RDKit makes of an atom stands in its letters, and a ring number right behind them; else what follows decides."""
    letters = [answer.text[start:end] for start, end in answer.written_atoms]
    atoms = list(answer.mol.GetAtoms())
    return (
        [each.strip("[").islower() for each in letters] == [atom.GetIsAromatic() for atom in atoms]
        and all(each[0] == "[" for each, atom in zip(letters, atoms, strict=True) if atom.GetFormalCharge())
        and not re.search(r"\)[-=#]?[0-9]", answer.text)
    )


def part(mol, atoms):
    """The first atoms of a molecule and the bonds among them, as a pattern of elements, charges and kinds of bonds."""
    pattern = Chem.RWMol(Chem.MolFromSmarts(".".join("[*]" for _ in range(atoms))))
    for index in range(atoms):
        atom = mol.GetAtomWithIdx(index)
        letter = f"#{atom.GetAtomicNum()};{'a' if atom.GetIsAromatic() else 'A'};{atom.GetFormalCharge():+d}"
        pattern.ReplaceAtom(index, Chem.AtomFromSmarts(f"[{letter}]"))
    for bond in mol.GetBonds():
        if max(bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()) < atoms:
            pattern.AddBond(bond.GetBeginAtomIdx(), bond.GetEndAtomIdx(), bond.GetBondType())
    return pattern.GetMol()


def test_a_departure_is_no_later_than_the_first_atoms_that_do_not_lie_in_the_reference():
    rng, at_all = random.Random(1), 0
    for reference in (reference for reference in REFERENCES if "." not in reference):
        mol = Chem.MolFromSmiles(reference)
        for _, answer in wrong_answers(reference, 15, rng):
            found = departure(answer, reference)
            assert found is not None
            if not said_at_once(answer):
                continue
            lies = [mol.HasSubstructMatch(part(answer.mol, atoms)) for atoms in range(1, answer.mol.GetNumAtoms() + 1)]
            if not all(lies):
                first = lies.index(False)  # its ring numbers stand behind it
                assert found.start < (*answer.written_atoms, (len(answer.text) + 1, 0))[first + 1][0]
                at_all += 1
    assert at_all > 20


@pytest.mark.parametrize(
    ("answer", "reference", "departs"),
    [
        ("CCCO", "CC(C)O", ("C", 2)),  # the second atom can have no branch any more
        ("CC(C)O", "CCCO", (")", 4)),
        ("C1CCCC1", "C1CCCCC1", ("1", 6)),
        ("C1CCCCC1", "CCCCCC", ("1", 1)),
        ("CC=O", "CCO", ("=", 2)),
        ("C=C", "CC", ("=", 1)),
        ("c1ccccc1C", "Cc1ccncc1", ("c", 4)),  # no three of its carbons follow each other without a branch
        ("CC[O-]", "CCO", ("[O-]", 2)),
        ("[13CH3]C", "CC", ("[13CH3]", 0)),
        ("CC", "CCO", ("", 2)),
        ("CC(C)", "CC(C)O", ("", 5)),
        ("CCO", "CCO.CN", ("", 3)),
        ("CCO.CO", "CCO.CN", ("O", 5)),
        ("C1=CC=CC=C1O", "Oc1ccccc1N", ("C", 9)),
        ("OC1=CC=CC=C1N", "Oc1ccccc1", ("N", 12)),
        ("CN(=O)=O", "CC[N+](=O)[O-]", ("N", 1)),
        (" CCN\n", "CCO", ("N", 3)),
        ("C1.C1CC", "C1CCC1C", (".", 2)),
        ("c1ccccc#1", "c1ccccc1C", ("#", 7)),
        ("C1.CCCCC1", "C1CCCCC1", (".", 2)),
    ],
)
def test_a_departure_is_the_first_token_after_which_the_reference_is_lost(answer, reference, departs):
    found = departure(read_molecule(answer), reference)
    assert (answer[found.start : found.end], found.start) == departs


def test_molecules_that_count_as_a_set_may_be_written_twice():
    assert departure(read_molecule("CO.CO.CCN"), "CCN.CO", as_set=True) is None
    assert departure(read_molecule("CO"), "CO.CO", as_set=True) is None
    assert departure(read_molecule("CO.CO.CCN"), "CCN.CO").start == 4
    assert departure(read_molecule("CO.CO"), "CCN.CO", as_set=True).start == 5


def test_selfies_depart_at_a_symbol():
    text = "[C][C][O][C][Ring1][C]"
    found = departure(read_molecule("[C][C][N]"), "CCO")
    assert (found.start, found.end) == (6, 9)
    assert departure(read_molecule(text), Chem.CanonSmiles(read_molecule(text).smiles)) is None
    found = departure(read_molecule("[C][C]"), "CCO")
    assert (found.start, found.end) == (6, 6)


@pytest.mark.parametrize("answer", ["C[C@@H](N)O", "[H]OCC[C@H](N)O"])
def test_nothing_is_said_of_stereo_and_of_hydrogens_as_atoms(answer):
    assert departure(read_molecule(answer), "C[C@H](N)O") is None


def test_only_stereo_leaves_the_goal_over_the_whole_answer():
    problem = Problem("t", "0", "", reference="C[C@H](N)O")
    findings = MoleculeVerifier(locate_departure=True).verify(problem, "C[C@@H](N)O").findings
    assert [(finding.kind, finding.start, finding.end) for finding in findings] == [("goal", 0, 11)]


def test_what_is_no_molecule_departs_only_behind_what_it_shares_with_a_writing_of_the_reference():
    rng, departed, count = random.Random(2), 0, 0
    for reference in REFERENCES:
        for _ in range(60):
            writing = written_at_random(reference, rng.randrange(10**6))
            text = "".join(spoiled(tokens(writing), rng))
            answer = read_molecule(text)
            if answer.valid:
                continue
            shared = 0
            for ours, theirs in zip(tokens(writing), tokens(text), strict=False):
                if ours != theirs:
                    break
                shared += len(ours)
            found = departure(answer, reference, as_set=True)
            assert found is None or found.start >= shared, (writing, text)
            count += 1
            departed += found is not None
    assert departed > 0.6 * count > 100


@pytest.mark.parametrize(
    ("answer", "reference", "departs"),
    [
        ("C1CCCCC", "C1CCCCC1", ("", 7)),  # the ring could have been closed up to the end
        ("C1CCO", "C1CCCCC1", ("O", 4)),
        ("CC(=O", "CC(=O)O", None),
        ("CN(C)(C)(C)C", "CN(C)C", ("C", 9)),
        ("CC[Xx]C", "CCO", ("[Xx]", 2)),
        ("CCN is it", "CCO", ("N", 2)),
        ("C=)C", "CCO", ("=", 1)),
        (")C", "CCO", None),
        ("C()C.", "CCO", (".", 4)),
        ("C((C))C", "CCO", ("C", 6)),
        ("[nH]1cccc1", "c1ccncc1", ("[nH]", 0)),
        ("1C", "CCO", None),
        ("", "CCO", None),
    ],
)
def test_what_is_no_molecule_departs_at_the_first_token_after_which_the_reference_is_lost(answer, reference, departs):
    found = departure(read_molecule(answer), reference)
    assert (found and (answer[found.start : found.end], found.start)) == departs


def test_a_fault_of_syntax_stands_behind_the_departure_if_it_could_have_been_mended():
    problem = Problem("t", "0", "", reference="Cc1ccccc1")
    verifier = MoleculeVerifier(locate_departure=True)
    for text, kinds in (
        ("Cc1cccccO", [("departure", 8), ("unclosed_ring", 9)]),
        ("Cc1cccc", [("departure", 7), ("unclosed_ring", 7)]),
    ):
        assert [(finding.kind, finding.start) for finding in verifier.verify(problem, text).findings] == kinds


def test_any_text_can_be_asked_about():
    rng = random.Random(3)
    for _ in range(1_500):
        text = "".join(rng.choices([*LETTERS, "[", "]", "%12", "/", "[O-]", "[C][=N]", " "], k=rng.randrange(1, 12)))
        departure(read_molecule(text), "Cc1ccccc1.OC=C", as_set=rng.random() < 0.5)


def test_symmetric_molecules_are_quick():
    from time import process_time

    reference = "FC(F)(F)C(F)(F)C(F)(F)C(F)(F)C(F)(F)C(C)(C)C(C)(C)C(C)(C)C.C12C3C4C1C5C2C3C45.CC(C)(C)C"
    since = process_time()
    assert departure(read_molecule(reference + "O"), reference, as_set=True).start == len(reference)
    assert process_time() - since < 1.0


def test_a_departure_stands_beside_the_findings_of_the_checks():
    problem = Problem("t", "0", "", {"product": "CC(=O)NCCBr"}, "CC(=O)O.NCCBr")
    verifier = RetrosynthesisVerifier(locate_departure=True)
    kinds = [finding.kind for finding in verifier.verify(problem, "CC(=O)NCCBr").findings]
    assert kinds == ["copied_product", "departure"]
    found = verifier.verify(problem, "CC(=O)O.NCCF").findings
    assert [(finding.kind, finding.start) for finding in found] == [("departure", 11), ("missing_atom", 11)]
    assert verifier.verify(problem, "NCCBr.CC(O)=O").correct
    assert RetrosynthesisVerifier(locate_departure=True, must_match=False).verify(problem, "CC(=O)Cl.NCCBr").correct


def test_no_atom_is_missing_or_too_many_before_the_departure():
    problem = Problem("t", "0", "", {"reactants": "BrCCCCO.CC(=O)O"}, "CC(=O)OCCCCBr")
    found = ForwardSynthesisVerifier(locate_departure=True).verify(problem, "BrCCCCBr").findings
    assert [(finding.kind, finding.start, finding.end) for finding in found] == [("departure", 6, 8), ("unsupplied_atom", 6, 8)]


def test_plausible_is_a_valid_answer_that_passes_every_check_and_is_not_the_reference():
    problem = Problem("t", "0", "", {"reactants": "CC(=O)O.NCCBr"}, "CC(=O)NCCBr")
    verifier = ForwardSynthesisVerifier(locate_departure=True)
    plausible = {text: verifier.verify(problem, text).measures["plausible"] for text in ("O=C(C)NCCBr", "CCNCCBr", "CCF", "CC(")}
    assert plausible == {"O=C(C)NCCBr": 0.0, "CCNCCBr": 1.0, "CCF": 0.0, "CC(": 0.0}
