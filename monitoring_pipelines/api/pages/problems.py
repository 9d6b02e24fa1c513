"""What a reader sees instead of a page: the error in his language, where to go, and the id the log knows it by (S-802).

What belongs here: errors of pages. What does not: errors of the JSON routes (``api.answers``).
"""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from monitoring_pipelines.api.pages.base import View, render

STRINGS = {
    "problem.title_400": ("请求有误", "The request cannot be understood"),
    "problem.title_403": ("没有权限", "Not allowed"),
    "problem.title_404": ("没有找到", "Not found"),
    "problem.title_503": ("暂时不可用", "Not available at the moment"),
    "problem.title_500": ("出错了", "Something went wrong"),
    "problem.text_404": ("此地址没有内容，或对象不存在。", "There is nothing at this address, or the object does not exist."),
    "problem.text_403": ("当前身份没有此权限。", "The present identity may not do this."),
    "problem.text_503": ("稍后会自动重试。", "This is tried again by itself."),
    "problem.text_500": ("服务器内部错误，详情在日志中。", "An error inside the server; the log has the details."),
    "problem.request": ("请求编号（日志中可查）", "Request id, also in the log"),
    "problem.again": ("重试", "Try again"),
    "problem.home": ("返回总览", "To the overview"),
    "problem.state_unavailable": (
        "状态库无法打开：告警、检查和修复计划暂时看不到。已发布的统计不受影响。运行 mp doctor 查看原因。",
        ("The state store cannot be used: alerts, checks and repair plans cannot be shown. Published statistics are not "
        "affected. mp doctor says why."),
    ),
    "problem.nothing_published": (
        "尚无已发布的数据。首次采集完成后此处会显示内容。",
        "Nothing has been published yet. This fills when the first extraction has finished.",
    ),
    "problem.lake_damaged": (
        "已发布的文件无法读取。运行 mp doctor 查看原因。",
        "The published files cannot be read. mp doctor says why.",
    ),
}  # fmt: skip
router = APIRouter(include_in_schema=False)
#: Paths that never are pages.
_NOT_PAGES = ("/api/", "/metrics", "/health", "/static/", "/download/", "/openapi.json")


def wants_page(request: Request) -> bool:
    """Whether the answer is for a person's browser."""
    path = request.url.path
    return "text/html" in request.headers.get("accept", "") and not path.startswith(_NOT_PAGES)


def problem_page(request: Request, status: int, message: str, reason: str | None, request_id: str) -> Response:
    """The error as a page; it refreshes itself when waiting may help.

    Args:
        request: The request that failed.
        status: HTTP status.
        message: What the JSON answer would say.
        reason: Its reason word, for which there may be a text in the reader's language.
        request_id: Under which the log has it.
    """
    view = View(request)
    kind = status if status in (400, 403, 404, 503) else 500
    known = [f"problem.{reason}", f"problem.text_{kind}"] if view.language != "en" else [f"problem.{reason}"]
    text = next((view.t(key) for key in known if view.knows(key)), view.said(message))
    return render(
        request, "problem.html", title=view.t(f"problem.title_{kind}"), refresh=None, status=status, view=view,
        text=text, request_id=request_id, may_pass=status >= 500,
    )  # fmt: skip
