# The course in a container: `docker build -t small-transformers .`, then `mkdir -p my-work` and
# `docker run --rm -p 8888:8888 -v "$PWD/my-work:/course/my-work" small-transformers`, and open the address it prints.
# Where you are not user 1000, add `--user "$(id -u):$(id -g)" -e HOME=/tmp`.
FROM python:3.11-slim

RUN apt-get update \
    && apt-get install --yes --no-install-recommends git make bubblewrap \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /course
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY coursekit/__init__.py coursekit/__init__.py
# Packages before the rest of the course, so that a change of a lesson does not install them again.
# A build for the CPU: the default one brings gigabytes of CUDA libraries.
RUN python -m venv /venv \
    && /venv/bin/pip install --no-cache-dir --constraint constraints.txt \
        --extra-index-url https://download.pytorch.org/whl/cpu torch==2.13.0+cpu --editable '.[export]'

# For a JupyterHub: `--build-arg HUB=1` (docs/jupyterhub).
ARG HUB=
RUN if [ -n "$HUB" ]; then /venv/bin/pip install --no-cache-dir --constraint constraints.txt 'jupyterhub<6'; fi

RUN useradd --create-home --uid 1000 learner
COPY --chown=learner . .
RUN mkdir -p my-work && chown learner /course my-work
USER learner
ENV PATH=/venv/bin:$PATH COURSEKIT_CACHE=/home/learner/.cache/coursekit
# Models, texts and the teacher, so that the container needs no network.
RUN coursekit lab --prepare

EXPOSE 8888
CMD ["jupyter", "lab", "--ip=0.0.0.0", "--port=8888", "--no-browser", "--LabApp.default_url=/lab/tree/welcome.ipynb"]
