"""A web service that hands work to a queue.

Its environment has the client only: pip install ardiq-client fastapi uvicorn.

Run it with `uvicorn service:api`; the worker, with the task's code, is `worker.py` and runs
elsewhere.
"""

from typing import Any

from fastapi import FastAPI, HTTPException, Query, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from ardiq import Ardiq, BrokerError, InvalidIdError, TaskStatus

# Queue and lanes as in worker.py. Redis is where $ARDIQ_REDIS_URL says.
queue = Ardiq(queue_name="reports", priorities=["default", "urgent"])
word_report = queue.ref("reports.words")

api = FastAPI(title="Word reports")


class Order(BaseModel):
    """The body of a request for a report."""

    text: str
    urgent: bool = False


class Report(BaseModel):
    """The response: the status of the report, and at the end the report or an error."""

    id: str
    status: TaskStatus
    report: dict[str, Any] | None = None
    error: str | None = None


@api.post("/reports", status_code=202)
async def order_report(order: Order) -> Report:
    """Enqueue a report and return at once.

    A caller that tries again gets the same job while it is unfinished.
    """
    lane = "urgent" if order.urgent else "default"
    job = await word_report.options(priority=lane, expire_ms=600_000, unique=True).enqueue(order.text)
    return Report(id=job.id, status=TaskStatus.QUEUED)


@api.get("/reports/{report_id}")
async def get_report(report_id: str, wait: float = Query(0, ge=0, le=30)) -> Report:
    """Return the report, or its status if it is not ready within `wait` seconds."""
    try:
        result = await queue.result(report_id, timeout=wait or None)
    except TimeoutError:
        result = None
    if result is None:
        status = await queue.status(report_id)
        if status is TaskStatus.NOT_FOUND:
            raise HTTPException(404, "there is no such report, or it has expired")
        return Report(id=report_id, status=status)
    if not result.success:
        return Report(id=report_id, status=TaskStatus.COMPLETE, error=result.value)
    return Report(id=report_id, status=TaskStatus.COMPLETE, report=result.value)


@api.exception_handler(InvalidIdError)
async def no_such_id(_request: Request, error: InvalidIdError) -> JSONResponse:
    """Answer that there is no such report: no report can have this id."""
    return JSONResponse({"detail": str(error)}, status_code=404)


@api.exception_handler(BrokerError)
async def redis_is_away(_request: Request, _error: BrokerError) -> JSONResponse:
    """Answer that Redis has not confirmed the request.

    If only its reply was lost, the order is already in the queue.
    """
    return JSONResponse(
        {"detail": "the queue did not confirm this; try again"}, status_code=503, headers={"Retry-After": "5"}
    )
