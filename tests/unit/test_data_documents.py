import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coursekit.data import Documents, load_documents, split_documents, split_sentences
from coursekit.data.documents import NEAR, near_copies
from coursekit.data.running_text import _repair


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("", []),
        ("   ", []),
        ("one", ["one"]),
        ("One. Two! Three? four.", ["One.", "Two!", "Three? four."]),
        ("One.\n\nTwo\tis here.", ["One.", "Two is here."]),
        ('"Why?" she asked. No one knew.', ['"Why?" she asked.', "No one knew."]),
        ('He said, "Go." "Now?" (They left.) The end.', ['He said, "Go."', '"Now?"', "(They left.)", "The end."]),
        ("Mr. Li met Dr. K. Wu on Jan. 5. It rained.", ["Mr. Li met Dr. K. Wu on Jan. 5.", "It rained."]),
        ("The U.S. Senate sat at 3 p.m. Friday. It rose.", ["The U.S. Senate sat at 3 p.m. Friday.", "It rose."]),
        ("It cost $3.5 million. 20 people paid.", ["It cost $3.5 million.", "20 people paid."]),
        ("See No. 4. Did he? No. He left.", ["See No. 4.", "Did he?", "No.", "He left."]),
        ("Wait... What?", ["Wait...", "What?"]),
    ],
)
def test_sentences_end_where_a_reader_would_end_them(text, sentences):
    assert split_sentences(text) == sentences


@given(st.text(alphabet="aB .!?\"')(\n1", max_size=60))
@settings(deadline=None, max_examples=200)
def test_sentences_joined_are_the_text(text):
    sentences = split_sentences(text)
    assert " ".join(sentences) == " ".join(text.split())
    assert all(sentence == sentence.strip() != "" for sentence in sentences)


def test_near_copies_are_counted_by_hand():
    # 10 words have 6 sequences of five; the second text shares "c d e f g" and "d e f g h": 2 of 6.
    texts = ["a b c d e f g h i j", "x c d e f g h y z w", "q r s t u v"]
    assert 2 / 6 >= NEAR
    assert near_copies(texts) == [0, 0, 2]
    assert near_copies(["a b c d e " + "1 2 3 4 5 6 7 8", "a b c d e " + "k l m n o p q r"]) == [0, 1]  # 1 of 9 < NEAR


def test_copies_of_copies_belong_together():
    # the ends share nothing; the middle one shares half of its text with each
    one, two, three = "a b c d e f g h", "a b c d e f g h p q r s t u v w", "p q r s t u v w"
    assert near_copies([one, three]) == [0, 1]
    assert near_copies([one, three, two]) == [0, 0, 0]


def test_short_texts_are_compared_whole():
    assert near_copies(["hello there", "Hello, there!", "there hello", "hello"]) == [0, 0, 2, 3]
    assert near_copies([]) == []


def _distinct(count):
    return [f"Word{i} goes to place{i} with friend{i}. Then thing{i} came back{i}." for i in range(count)]


def test_each_document_is_on_one_side_and_whole():
    texts = _distinct(400)
    documents = split_documents("mine", texts)
    sides = (documents.train, documents.validation, documents.test)
    found = [" ".join(document) for side in sides for document in side]
    assert isinstance(documents, Documents) and documents.name == "mine"
    assert sorted(found) == sorted(texts)
    for side in sides:
        order = [texts.index(" ".join(document)) for document in side]
        assert order == sorted(order)
    assert all(len(document) == 2 for side in sides for document in side)
    # expected 340, 20 and 40; 4 standard deviations are 29, 18 and 24
    assert abs(len(documents.train) - 340) < 29 and 2 <= len(documents.validation) < 38
    assert abs(len(documents.test) - 40) < 24


def test_the_side_of_a_document_does_not_depend_on_the_others():
    texts = _distinct(60)
    alone, among = split_documents("a", texts), split_documents("b", _distinct(200)[::-1])
    for side in ("train", "validation", "test"):
        assert {tuple(d) for d in getattr(alone, side)} <= {tuple(d) for d in getattr(among, side)}


def test_near_copies_are_on_one_side_and_repeated_or_empty_texts_go():
    texts = []
    for i, text in enumerate(_distinct(150)):
        texts += [text, f"{text} Updated at noon, item{i}.", "", " \n"]
    texts += [text.upper() for text in texts]  # copies: the first of each stays, in its place
    documents = split_documents("mine", texts)
    side_of = {}
    for side in ("train", "validation", "test"):
        for document in getattr(documents, side):
            side_of.setdefault(document[0].split()[0].lower(), []).append(side)
    assert len(side_of) == 150
    assert all(len(sides) == 2 and len(set(sides)) == 1 for sides in side_of.values())
    starts = [document[0].split()[0] for document in documents.train]
    assert starts == sorted(starts, key=lambda word: int(word.removeprefix("Word")))
    assert len({sides[0] for sides in side_of.values()}) == 3


def test_documents_say_what_is_wrong():
    with pytest.raises(ValueError, match="unknown documents 'newz'; nearest: news"):
        load_documents("newz")
    with pytest.raises(ValueError, match="'mine' has no text: none of its 2 documents"):
        split_documents("mine", ["", "..."])
    with pytest.raises(ValueError, match=r"texts\[1\] must be a string, got list"):
        split_documents("mine", ["a", ["b"]])


def test_repaired_news_reads_as_it_was_written():
    assert _repair('the teachers"?unions') == "the teachers' unions"
    assert _repair('"It is late,"?she said.  "Go."?He went') == '"It is late," she said. "Go." He went'
    assert _repair('the bill "?a first "? failed') == 'the bill - a first "? failed'
    assert _repair('I didn"t say "so"') == 'I didn\'t say "so"'
    assert _repair("A&amp;B \ufffd") == "A&B"


@pytest.fixture(scope="module")
def bible():
    return load_documents("bible")


def test_the_bible_is_chapters_in_three_splits(bible):
    sizes = [len(bible.train), len(bible.validation), len(bible.test)]
    assert sum(sizes) == 1189  # the chapters of the Protestant canon
    assert sizes == [1002, 54, 133]
    everything = [" ".join(document) for side in (bible.train, bible.validation, bible.test) for document in side]
    assert sum(text.startswith("In the beginning God created the heavens and the earth.") for text in everything) == 1
    assert not any("{" in text for text in everything)


def test_parallel_chapters_do_not_leak(bible):
    # 2 Kings 19 and Isaiah 37 tell the same story in nearly the same words
    words = "Give ear, Yahweh, and hear"
    sides = [side for side in ("train", "validation", "test") for d in getattr(bible, side) if words in " ".join(d)]
    told = [
        side
        for side in ("train", "validation", "test")
        for d in getattr(bible, side)
        if "Sennacherib king of Assyria departed" in " ".join(d)
    ]
    assert len(told) == 2 and len(set(told)) == 1, sides


def test_news_are_articles_of_sentences():
    documents = load_documents("news")
    sides = (documents.train, documents.validation, documents.test)
    assert [len(side) for side in sides] == [3209, 182, 389]
    lengths = [len(sentence.split()) for side in sides for document in side for sentence in document]
    assert 20 < sum(lengths) / len(lengths) < 26
    assert not any("\ufffd" in sentence for document in documents.test for sentence in document)
