"""Where a browser hands in its token, once: it is kept in a cookie that scripts cannot read."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import parse_qs

from fastapi import APIRouter, Query, Request
from fastapi.responses import RedirectResponse, Response

from monitoring_pipelines.api.access import COOKIE, Gate
from monitoring_pipelines.api.pages.base import render

STRINGS = {
    "login.title": ("登录", "Sign in"),
    "login.token": ("访问令牌", "Access token"),
    "login.wrong": ("令牌无效", "That token is not known"),
    "login.enter": ("登录", "Sign in"),
}
router = APIRouter(include_in_schema=False)


def login_page(request: Request, status: int, *, wrong: bool = False, target: str = "/") -> Response:
    """The form."""
    from monitoring_pipelines.api.pages.base import View

    view = View(request)
    return render(
        request, "login.html", title=view.t("login.title"), refresh=None, status=status, view=view, wrong=wrong,
        target=target,
    )  # fmt: skip


@router.get("/login")
def form(request: Request, to: Annotated[str, Query(max_length=500)] = "/") -> Response:
    """The form by itself."""
    return login_page(request, 200, target=_inside(to))


@router.post("/login")
async def enter(request: Request) -> Response:
    """Take the token, if it is one."""
    fields = parse_qs((await request.body()).decode("utf-8", "replace"))
    token, target = (fields.get(name, [""])[0] for name in ("token", "to"))
    gate: Gate = request.app.state.gate
    if gate.principal(token) is None:
        return login_page(request, 401, wrong=True, target=_inside(target))
    answer = RedirectResponse(_inside(target), 303)
    answer.set_cookie(COOKIE, token, httponly=True, samesite="strict", secure=request.url.scheme == "https")
    return answer


def _inside(target: str) -> str:
    """A path of this server, never another one."""
    return target if target.startswith("/") and not target.startswith(("//", "/\\")) else "/"
