"""The job service: the contract of AWS IoT Jobs, without threads, sockets or the bus.

``JobService`` answers devices and operators, ``repository`` holds jobs, executions and things,
``change`` is one transaction with the messages that follow from it, ``rollout`` makes jobs and
advances them, ``wire`` writes payloads.
"""
