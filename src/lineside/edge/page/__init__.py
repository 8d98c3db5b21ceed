"""The device's own page: what the line shows and what is said of it, for people and programs.

It is told of what is decided anyway (``Gallery``); nobody who looks makes the device predict,
capture or ask the hub. It works while the hub is away.
"""
