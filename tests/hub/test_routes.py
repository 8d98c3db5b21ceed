"""An index of routes chooses what asking one after the other chooses."""

from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Mount, Route

from lineside.hub.api import RouteIndex

PATHS = (
    "/", "/lines", "/lines/{line}", "/lines/{line}/{camera}", "/{thing}/picture", "/api/docs",
    "/api/v1/events", "/api/v1/events/{id}", "/api/v1/{noun}/count",
    "/things/{rest:path}", "/api/v1",
)  # fmt: skip
PARTS = (
    "",
    "lines",
    "things",
    "api",
    "v1",
    "v2",
    "events",
    "docs",
    "picture",
    "count",
    "static",
    "a",
)
METHODS = st.sampled_from(["GET", "POST"])


def answer(_: Request) -> Response:
    return Response()


def of(path: str, method: str) -> BaseRoute:
    return Route(path, answer, methods=[method])


def first(routes: list[BaseRoute], scope: dict[str, object]) -> tuple[Match, str]:
    """Return the match and the pattern that Starlette's own router takes."""
    partial = Match.NONE, ""
    for route in routes:
        match, _ = route.matches(scope)
        if match is Match.FULL:
            return match, str(getattr(route, "path", ""))
        if match is Match.PARTIAL and partial[0] is Match.NONE:
            partial = match, str(getattr(route, "path", ""))
    return partial


@given(
    kinds=st.lists(
        st.tuples(st.sampled_from(PATHS), st.sampled_from(["GET", "POST"])), max_size=12
    ),
    parts=st.lists(st.sampled_from(PARTS), max_size=5),
    method=METHODS,
)
def test_the_index_chooses_what_asking_each_route_chooses(
    kinds: list[tuple[str, str]], parts: list[str], method: str
) -> None:
    routes = [of(path, kind) for path, kind in kinds]
    routes.append(Mount("/static/1", routes=[Route("/a", answer)]))
    scope: dict[str, object] = {
        "type": "http",
        "method": method,
        "path": "/" + "/".join(parts),
        "headers": [],
    }
    match, child = RouteIndex(routes).matches(dict(scope))
    chosen = child.get("lineside.route")
    assert (match, str(getattr(chosen, "path", ""))) == first(routes, scope)
