"""Open Inference Protocol, version 2: tensors, packages as its models, HTTP, gRPC.

``open_inference.proto`` is the protocol's; ``make protos`` makes its stubs again.
"""
