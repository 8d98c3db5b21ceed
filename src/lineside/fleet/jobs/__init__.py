"""The job service: the contract of AWS IoT Jobs, without threads, sockets or the bus.

``JobService`` answers devices and operators, ``repository`` holds jobs and executions,
``change`` is one transaction with the messages that follow from it, ``rollout`` makes jobs and
advances them, ``directory`` knows things and their groups.
"""
