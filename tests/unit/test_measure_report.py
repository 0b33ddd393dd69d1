import pytest
import torch

from coursekit.measure import (
    PUBLISHED,
    count_flops,
    count_parameters,
    machine,
    report,
    stored_bytes,
)
from coursekit.models import SharingPlan, TransformerConfig, build, presets

TINY = TransformerConfig(13, 8, 3, 2, 16)


@pytest.fixture(scope="module")
def models():
    return {"plain": build(TINY), "shared": build(TINY.replace(sharing=SharingPlan.all(3)))}


def test_rows_hold_what_the_functions_say(models):
    threads = torch.get_num_threads()
    rows = report(models, 2, 5, repeats=2, threads=threads + 1).rows
    assert [row.name for row in rows] == ["plain", "shared"]
    for row in rows:
        model = models[row.name]
        assert row.parameters == count_parameters(model).total
        assert row.stored_bytes == stored_bytes(model)
        assert row.flops == count_flops(model, 2, 5)
        assert row.peak_bytes > 0 and len(row.latency.seconds) == 2
        assert row.latency.threads == threads + 1
    assert rows[0].parameters > rows[1].parameters and rows[0].flops == rows[1].flops
    assert rows[0].latency.ratio == 1
    assert torch.get_num_threads() == threads
    assert all(model.training for model in models.values())


def test_table_is_markdown_with_aligned_columns(models):
    result = report(models, 2, 5, repeats=1, warmup=0, accuracy={"shared": 0.8125})
    *table, empty, note = str(result).splitlines()
    assert len(table) == 4 and not empty and len({len(line) for line in table}) == 1
    assert all(line.count("|") == 9 for line in table)
    assert table[2].split("|")[2].strip() == f"{count_parameters(models['plain']).total:,}"
    assert [line.split("|")[-2].strip() for line in table] == ["accuracy", "-------:", "–", "81.2%"]
    assert note == f"batch 2 × 5 tokens, 1 rounds; {machine()}"
    assert result._repr_markdown_() == str(result)


def test_no_accuracy_no_column(models):
    ids = torch.ones(1, 3, dtype=torch.long)
    text = str(report({"plain": models["plain"]}, inputs=ids, repeats=1, warmup=0))
    assert "accuracy" not in text and "the inputs given" in text


def test_bad_reports(models):
    with pytest.raises(ValueError, match="nothing to time"):
        report({}, 1, 4)
    with pytest.raises(ValueError, match="batch must be .* got 0"):
        report(models, 0, 4)
    with pytest.raises(ValueError, match="unknown model 'plane'; nearest: plain"):
        report(models, 1, 4, accuracy={"plane": 0.5})
    with pytest.raises(ValueError, match="model 'a' has shapes only"):
        report({"a": build(TINY, device="meta")}, 1, 4)


def test_published_names():
    assert (
        list(PUBLISHED)
        == (
            "bert-base bert-large albert-base albert-large albert-xlarge albert-xxlarge distilbert-base tinybert-4 "
            "tinybert-6 minilm-l12-h384 minilm-l6-h384 subformer-small subformer-base subformer-mid subformer-large "
            "transformer-base transformer-big"
        ).split()
    )


@pytest.mark.parametrize("name", presets())
def test_published_total_is_the_counted_one_unless_said_otherwise(name):
    """Printed totals are rounded or cut; where the count is further off, `counts` says why."""
    published = PUBLISHED[name]
    printed, digits = float(published.total[:-1]), len(published.total.partition(".")[2][:-1])
    counted = count_parameters(build(name, device="meta")).total / 1e6
    agrees = abs(counted - printed) < 10**-digits
    assert agrees != ("not reproduced" in published.counts), (counted, published)
