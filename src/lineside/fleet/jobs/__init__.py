"""The job service: the contract of AWS IoT Jobs, without threads, sockets or the bus.

``JobService`` answers devices and operators, ``repository`` holds jobs, executions and things,
``change`` is one transaction with the messages that follow from it, ``rollout`` makes jobs and
advances them, ``wire`` writes payloads. It is also how our own devices are asked to run a package
(ADR 21). Not here: what only AWS' clients ask over HTTP (``compat.aws.iot_jobs``).
"""
