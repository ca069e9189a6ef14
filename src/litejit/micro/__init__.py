"""TensorFlow Lite for Microcontrollers: its Python interpreter, its numbers, its arena.

`from litejit.micro import runtime` gives the drop-in for `tflite_micro.runtime`.
"""
