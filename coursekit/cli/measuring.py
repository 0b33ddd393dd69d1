"""Commands that count and measure."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from coursekit.cli.show import Json, print_json, table


def params(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="As bert-base.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Every model the course knows.")] = False,
    as_json: Json = False,
) -> None:
    """Count a model's parameters, beside what was published."""
    from coursekit.course.params import preset_parameters

    if bool(names) == every:
        from coursekit.models import presets

        raise ValueError(
            f"expected names or --all, got {'both' if names else 'neither'}; known: {', '.join(presets())}"
        )
    counted = preset_parameters(names)
    if as_json:
        print_json([asdict(model) for model in counted])
        return
    for model in counted:
        print(f"{model.name}: {model.total:,} parameters counted here; {model.published} published in {model.source}")
        print(f"what that counts: {model.counts}")
        rows = [(part, f"{count:,}", f"{count / model.total:.1%}") for part, count in model.by_component.items()]
        table(("component", "parameters", "share"), rows, right=("parameters", "share"))
        print()


def bench(
    suite: Annotated[str, typer.Argument(metavar="[SUITE]", help="training, inference, distillation, or all.")] = "all",
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    full: Annotated[bool, typer.Option("--full", help="Every shape, more rounds: an hour, not six minutes.")] = False,
    rounds: Annotated[int | None, typer.Option(min=1, help="Call everything at most so often.")] = None,
    threads: Annotated[int, typer.Option(min=1, help="Of the CPU; the bars are stated for 1.")] = 1,
    to_json: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the result there.")] = None,
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw the ratios there, as PNG.")] = None,
) -> None:
    """Time our code against others', each ratio beside its bar."""
    from coursekit.bench import run_bench
    from coursekit.bench.table import ARM_COLUMNS, BAR_COLUMNS, arm_rows, bar_rows
    from coursekit.files import atomic_file, write_json

    def say(case: str, number: int, total: int) -> None:
        print(f"case {number + 1} of {total}: {case}", file=sys.stderr, flush=True)

    result = run_bench(suite, device=device, full=full, rounds=rounds, threads=threads, progress=say)
    if to_json:
        write_json(to_json, result.to_dict())
    if plot:
        from coursekit.viz.bench import bench as draw
        from coursekit.viz.style import to_png, use_style

        use_style()
        with atomic_file(plot) as part:
            part.write_bytes(to_png(draw(result)))
    for case in result.cases:
        print(f"{case.name} ({case.about})")
        if case.why:
            print(f"not on this machine: {case.why}\n")
            continue
        rows = arm_rows(case)
        kept = [place for place, _ in enumerate(ARM_COLUMNS) if any(row[place] for row in rows)]
        columns = tuple(ARM_COLUMNS[place] for place in kept)
        table(columns, [tuple(row[place] for place in kept) for row in rows], right=columns[1:])
        print()
    table(BAR_COLUMNS, bar_rows(result), right=("measured", "quartiles"))
    print(f"\n{result.command}, {result.seconds:.0f} s, {result.date}; {result.machine}")


def plan(
    name: Annotated[str, typer.Argument(metavar="PRESET", help="As bert-base.")],
    tokens: Annotated[float, typer.Option(help="To train on, as 3e9.")],
    devices: Annotated[int, typer.Option(help="That train together.")] = 1,
    batch: Annotated[int, typer.Option(help="Sequences on a device.")] = 32,
    length: Annotated[int, typer.Option(help="Tokens of a sequence.")] = 128,
    precision: Annotated[str, typer.Option(help="fp32, bf16 or auto.")] = "auto",
    device: Annotated[str, typer.Option(help="cpu or cuda, to measure on.")] = "cpu",
    tflops: Annotated[float | None, typer.Option(help="Of a device you do not have; nothing is measured.")] = None,
    efficiency: Annotated[float | None, typer.Option(help="Share left with several devices: 0.9.")] = None,
    price: Annotated[float | None, typer.Option(help="Of a device for an hour.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Train the whole model for a few steps beside it.")] = False,
    as_json: Json = False,
) -> None:
    """Estimate time, memory and cost of a training."""
    from coursekit.bench import Throughput, check_plan, plan
    from coursekit.bench.plan_table import PLAN_COLUMNS, check_line, plan_rows

    if check and tflops is not None:
        raise ValueError("--check times this machine; it goes without --tflops")
    given = None if tflops is None else Throughput(tflops * 1e12, "as given")
    options = {"batch": batch, "length": length, "precision": precision, "device": device}
    planned = plan(name, tokens, devices=devices, throughput=given, efficiency=efficiency, price=price, **options)
    checked = check_plan(planned, device=device) if check else None
    if as_json:
        derived = {key: getattr(planned, key) for key in ("flops", "tokens_per_second", "seconds", "cost")}
        print_json(asdict(planned) | derived | {"check": asdict(checked) if checked else None})
        return
    table(PLAN_COLUMNS, plan_rows(planned), right=PLAN_COLUMNS[1:])
    print(f"\nthroughput: {planned.throughput.source}")
    if checked:
        print(check_line(checked))


def study(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="As sharing; lists them without.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="One seed on toy settings, to see that it works.")] = False,
    stored: Annotated[bool, typer.Option("--stored", help="Run nothing: what the course came with.")] = False,
    as_json: Json = False,
) -> None:
    """Run what is left of a long experiment, or list them."""
    from coursekit.course.studies import find_study, list_studies, run_study, stored_study

    if stored and (quick or name is None):
        raise ValueError("--stored shows one study as it is: it needs a NAME, and goes without --quick")
    if name is None:
        if as_json:
            print_json([asdict(each) for each in list_studies()])
        else:
            rows = [(e.name, e.title, f"{e.minutes} min", e.stored or "not run") for e in list_studies()]
            table(("study", "title", "time", "stored"), rows, right=("time",))
        return
    file = stored_study(name) if stored else run_study(name, quick=quick)
    summary = file.read_text(encoding="utf-8")
    if as_json:
        print(summary)
        return
    print(file)
    if (tabulate := find_study(name).table) and not quick:
        found = tabulate(json.loads(summary))
        print()
        table(found.columns, found.rows, right=found.columns[1:])
        print(f"\n{found.note}")
