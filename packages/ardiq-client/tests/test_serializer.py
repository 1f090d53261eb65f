"""An app's own serializer and deserializer in place of msgpack."""

import json
from typing import Any, Protocol

import pytest

from ardiq import Ardiq
from ardiq._encoding.codec import Codec
from ardiq.errors import SerializationError


class Server(Protocol):
    """What a test needs to know of a server."""

    @property
    def url(self) -> str: ...


def _to_json(value: Any) -> bytes:
    return json.dumps(value).encode()


def test_it_carries_calls_and_values() -> None:
    custom = Codec(_to_json, json.loads)
    assert custom.encode_call((1, "a"), {"k": [2]}) == b'[[1, "a"], {"k": [2]}]'
    assert custom.decode_call(b'[[1, "a"], {"k": [2]}]') == ((1, "a"), {"k": [2]})
    assert custom.decode_value(custom.encode_value({"x": 1})) == {"x": 1}


def test_it_is_given_a_tuple_and_a_dict() -> None:
    seen: list[Any] = []

    def serialize(value: Any) -> bytes:
        seen.append(value)
        return b""

    Codec(serialize, json.loads).encode_call((1,), {"a": 2})
    assert seen == [((1,), {"a": 2})]


@pytest.mark.parametrize(("one", "other"), [(_to_json, None), (None, json.loads)])
def test_one_alone_is_refused(one: Any, other: Any) -> None:
    with pytest.raises(TypeError, match="both or neither"):
        Codec(one, other)


def test_it_must_be_callable() -> None:
    with pytest.raises(TypeError, match="serializer must be callable, not str"):
        Codec("json", json.loads)  # type: ignore[arg-type]


def test_its_errors_are_ours_and_keep_the_cause() -> None:
    custom = Codec(_to_json, json.loads)
    with pytest.raises(SerializationError, match="the app's serializer: TypeError") as refused:
        custom.encode_call((object(),), {})
    assert isinstance(refused.value.__cause__, TypeError)
    with pytest.raises(SerializationError, match="the app's deserializer: JSONDecodeError"):
        custom.decode_value(b"{")


def test_it_must_return_bytes() -> None:
    with pytest.raises(SerializationError, match="must return bytes, not str"):
        Codec(json.dumps, json.loads).encode_value(1)  # type: ignore[arg-type]


@pytest.mark.parametrize("data", [b"1", b"[[1]]", b"[1, {}]", b'[[], "x"]', b'"ab"'])
def test_a_call_must_come_back_as_one(data: bytes) -> None:
    with pytest.raises(SerializationError, match=r"\(args, kwargs\)"):
        Codec(_to_json, json.loads).decode_call(data)


async def test_arguments_and_results_of_jobs_go_through_it(server: Server, queue_name: str) -> None:
    app = Ardiq(server.url, queue_name, serializer=_to_json, deserializer=json.loads, burst=True)

    @app.task
    async def pair(numbers: Any, *, by: Any) -> Any:
        return (numbers, by)

    job = await pair.enqueue((1, 2), by=(3,))
    info = await job.info()
    assert info is not None
    # JSON turns a tuple into a list, and msgpack does not.
    assert (info.args, info.kwargs) == (([1, 2],), {"by": [3]})
    await app.run()
    result = await job.result()
    assert result is not None
    assert result.value == [[1, 2], [3]]
    stranger = Ardiq(server.url, queue_name)
    with pytest.raises(SerializationError, match="must use the same serializer"):
        await stranger.result(job.id)
