"""APIs on the device's socket: gRPC services, models loaded by name, Open Inference Protocol."""
