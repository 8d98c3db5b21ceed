"""An index of routes chooses what asking one after the other chooses."""

import asyncio
from collections.abc import Iterator
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Mount, Route

from lineside.hub import Services, create_app
from lineside.hub.middleware import RouteIndex, RoutePart, path_beginning

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


def beginnings(route: BaseRoute) -> Iterator[str]:
    """Yield the beginnings of the paths that a route, or a router with its routes, may take."""
    inner = getattr(route, "original_router", None)
    for one in inner.routes if inner else [route]:
        yield path_beginning(getattr(one, "path", ""))


def part_of(route: BaseRoute) -> RoutePart:
    return frozenset(beginnings(route)), lambda: [route]


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
    match, child = RouteIndex([*map(part_of, routes)]).matches(dict(scope))
    chosen = child.get("lineside.route")
    assert (match, str(getattr(chosen, "path", ""))) == first(routes, scope)


def test_each_part_of_the_routes_begins_as_its_table_says(hub: Services) -> None:
    found = next(one.parts for one in create_app(hub).routes if isinstance(one, RouteIndex))
    assert len(found) > 40
    assert not any(one.cache_info().currsize for _, one in found)  # type: ignore[attr-defined]
    for table, routes in found:
        assert table == {one for route in routes() for one in beginnings(route)}


def test_parts_are_imported_after_a_start_and_one_that_fails_stops_no_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    tried = []

    def routes(name: str) -> list[BaseRoute]:
        tried.append(name)
        raise OSError("gone")

    parts = [(frozenset({name}), partial(routes, name)) for name in ("runs", "try")]
    asyncio.run(RouteIndex(parts).import_all())
    assert tried == ["runs", "try"]
    assert "routes not imported paths=runs" in caplog.text
