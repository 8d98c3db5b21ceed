"""Pages for people: made on the server, live where something moves.

Main names: ``mount_pages`` (routes, files, failures as pages), ``problem_page``,
``sign_in_page``, ``signed_in_page``. Pages read through the hub's parts; everything a page
changes goes through ``/api/v1`` like any other client.
Not here: who may see what (``hub.access``), JSON for programs (``hub.api``).

| Files | Hold |
|---|---|
| ``lines learning …`` | pages: pure view models, and routes that fill a template |
| ``answers datasets frames twin`` | view models that several pages share |
| ``templates/`` ``static/`` | HTML, styles, ES modules, files made by others with their licences |
"""

from lineside.hub.pages.mount import (
    mount_pages,
    problem_page,
    refusal_page,
    sign_in_page,
    signed_in_page,
)

__all__ = ["mount_pages", "problem_page", "refusal_page", "sign_in_page", "signed_in_page"]
