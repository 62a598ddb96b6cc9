"""The fast engine: a verified program, translated once into integer kernels that do whole layers.

What runs is derived from the binary alone. `nests` cuts the code into loop nests, `lift` proves what each of them
computes, `dataflow` finds out which result every read sees, and per level `schedule` makes steps of it: kernels
(`kernels`, small onnxruntime graphs), byte tables between them, and DRAM traffic where somebody else looks at DRAM. A
nest that `lift` cannot prove to be a layer runs on the reference engine. Results are those of the reference engine, bit
for bit.
"""

from mmac.runtime.engines.fast.engine import FastEngine as FastEngine
