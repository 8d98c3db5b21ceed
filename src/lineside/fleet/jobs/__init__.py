"""The AWS IoT Jobs service: a device's requests answered, an operator's wishes kept."""
