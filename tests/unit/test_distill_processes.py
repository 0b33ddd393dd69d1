"""Two real processes distil to the student of one, terms that count tokens, pairs and labels included.

This file is also their script.
"""

import os
import subprocess
import sys
from pathlib import Path

import torch
from distill_models import model, texts
from safetensors.torch import load_file, save_file

from coursekit.distill import Stage, Term, distill, fresh_student, init_from_teacher, theseus, tinybert
from coursekit.distill.recipes import Recipe
from coursekit.train import TrainConfig

CONFIG = TrainConfig(steps=6, lr=2e-3, precision="fp32", accumulate=2, warmup=0.0)


def students():
    """Tensors of two students: one of all kinds of counts, one whose layers replaced the teacher's."""
    teacher = model()
    data = texts(21, batch_size=5, labels=[-100 if row % 3 else row % 2 for row in range(21)])
    stage = Stage("both", (*tinybert(6, 3).stages[0].terms, Term("hard"), Term("soft")))
    narrow = fresh_student(teacher, num_layers=3, hidden_size=16, intermediate_size=24)
    distill(narrow, teacher, Recipe("all", 6, 3, (stage,)), data, CONFIG)
    successor = init_from_teacher(teacher, theseus(6, 3).start)
    distill(successor, teacher, theseus(6, 3), data, CONFIG)
    made = {"narrow": narrow, "successor": successor}
    return {f"{name}.{key}": t.contiguous() for name, m in made.items() for key, t in m.state_dict().items()}


def test_two_processes_distil_to_the_student_of_one(tmp_path):
    # Not --cpu, with which it starts one process and says nothing. The training loop is tested under torchrun too.
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    launch += ["--main_process_port", "0", __file__]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "COURSEKIT_QUIET": "1", "ACCELERATE_USE_CPU": "1"}
    subprocess.run([*launch, str(tmp_path)], env=environment, check=True, timeout=240, capture_output=True)
    alone = students()
    for rank in (0, 1):
        theirs = load_file(tmp_path / f"{rank}.safetensors")
        for name, tensor in alone.items():
            if name.endswith("key.bias"):
                continue  # moves no softmax: its gradient is rounding, which Adam makes large
            assert torch.allclose(tensor, theirs[name], atol=5e-5), name


if __name__ == "__main__":
    torch.manual_seed(0)
    found = students()
    save_file(found, Path(sys.argv[1]) / f"{torch.distributed.get_rank()}.safetensors")
