"""The AWS IoT Jobs contract as a service: devices over MQTT and HTTP, operators over HTTP.

Main names: ``JobService``; ``Directory`` and ``ThingDirectory`` (things and groups); ``JobMessage``
(what is to be said on the bus). ``book.py`` says what is kept and where; ``change.py`` when who is
told. Not here: threads, sockets, the bus.
"""
