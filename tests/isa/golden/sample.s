.program {"name": "sample", "target": "vc707", "scratchpads": {"act": 1024, "acc": 4096}, "dram_bytes": 8192, "buffer": [4096, 1024], "notes": {"compiler": "0.1", "source": "a.onnx"}}
.level "8x2"
.level "10x2"
.level "12x2"
.level "14x2"
.level "14x3"
.level "16x3"
.level "18x3"
.level "20x3"
.layer {"name": "conv; a", "levels": ["8x2", "10x2", "12x2", "14x2", "14x3", "16x3", "18x3", "20x3"]}
.layer {"name": "fc", "levels": ["37x4", "37x4", "37x4", "37x4", "37x4", "37x4", "37x4", "37x4"]}
.prediction {"latency_ms": 0.375, "energy_mj": 2.5, "sqnr_db": -3.21}
.prediction {"latency_ms": 0.5, "energy_mj": 2.642857142857143, "sqnr_db": -2.21}
.prediction {"latency_ms": 0.625, "energy_mj": 2.7857142857142856, "sqnr_db": -1.21}
.prediction {"latency_ms": 0.75, "energy_mj": 2.9285714285714284, "sqnr_db": -0.20999999999999996}
.prediction {"latency_ms": 0.875, "energy_mj": 3.071428571428571, "sqnr_db": 0.79}
.prediction {"latency_ms": 1.0, "energy_mj": 3.2142857142857144, "sqnr_db": 1.79}
.prediction {"latency_ms": 1.125, "energy_mj": 3.357142857142857, "sqnr_db": 2.79}
.prediction {"latency_ms": 1.25, "energy_mj": 3.5, "sqnr_db": 3.79}
.tensor {"name": "x", "dtype": "uint8", "shape": [1, 16, 8, 8], "place": {"base": 4096, "strides": [1024, 1, 128, 16]}, "scale": 0.0123, "zero_point": 128}
.tensor {"name": "\u00e9\n", "dtype": "float32", "shape": [1, 10], "place": null, "scale": null, "zero_point": null}
.input {"name": "image", "dtype": "float32", "shape": [1, 16, 8, 8], "tensors": ["x"]}
.output {"name": "logits", "dtype": "float32", "shape": [1, 10], "tensors": ["\u00e9\n"]}
.debug {"start": 0, "stop": 18, "node": "conv; a\n", "op": "Conv", "macs": 147456, "outputs": ["x"]}
.debug {"start": 18, "stop": 19, "node": "Softmax_1", "op": "Softmax", "macs": 0, "outputs": []}

; 0…17: Conv "conv; a\n", 147456 MACs
tensor t=t0 base=4096 elem=1 fill=128
shape t=t0 n=1 h=8 w=8 c=16
stride t=t0 n=1024 h=128 w=16 c=1
walk t=t0 dim=h origin=-1 extent=4 step=2 loop=d1
walk t=t0 dim=n origin=0 extent=1 step=1 loop=level
pointer p=p0 pad=act addr=0 toggle=512 mask=3 phase=1
conv kernel_h=3 kernel_w=3 stride_h=1 stride_w=1 dilation_h=1 dilation_w=1 ic=16 oc=16
quant a_scale=0.1 a_zero=128 y_zero=-3 y_min=-128 y_max=127 y_signed=1
sync.compute signal=1
loop 4
  load t=t0 p=p0 wait=1 signal=2
  load.params t=t0 p=p0 signal=5
  sync.weights wait=none,6
  loop 2
    mmac x=t0 y=t0 act=p0 wgt=p0 acc=p0 layer=1 format=raw first=d1 multipliers=0x5 wait=2,3
    store.acc t=t0 acc=p0 prm=p0 wait=none,5
  end
end
; 18…18: Softmax "Softmax_1"
host 0
halt

.host {"inputs": ["x"], "outputs": ["\u00e9\n"], "nodes": [["Softmax_1", "no vector unit for it"]], "bytes": 6}
; 6 bytes left out
.image {"bytes": 300}
; 300 bytes left out
