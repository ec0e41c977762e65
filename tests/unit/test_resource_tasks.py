"""Tasks of a plan: their requests, payloads and priorities."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
import pytest

from scrapeq.errors import UsageError
from scrapeq.expression import compile_expression as expression
from scrapeq.expression import compile_template as template
from scrapeq.plan import Auth, Client, Endpoint, LimitRule, Paginator, Parent, Plan, Resource
from scrapeq.protocols import Change
from scrapeq.resource import TaskBuilder, check_payload, first_tasks, seed_task
from scrapeq.task import Group, NewTask

NOW_S = 1_750_000_000.0


def group_of(resource: str, method: str, url: str, seed: Mapping[str, Any], parent: Any) -> Group:
    """Return a group whose name contains the arguments."""
    return Group(f"{resource} {method} {seed} {parent}")


def plan(*resources: Resource, **more: Any) -> Plan:
    """Return a plan at https://api.test/v1."""
    client = more.pop("client", Client(base_url="https://api.test/v1/"))
    return Plan("t", "t.yaml", client=client, resources=resources, **more)


def first(endpoint: Endpoint, seed: Mapping[str, Any] | None = None, **more: Any) -> NewTask:
    """Return the one task of a resource with this endpoint."""
    (task,) = first_tasks(plan(Resource("r", endpoint), seeds=(seed or {},), **more), group_of, NOW_S)
    return task


def test_each_resource_without_a_parent_starts_once_per_seed() -> None:
    """A resource's own seeds replace those of the file; children wait for their parents."""
    issues = Resource("issues", Endpoint(path=template("${seed.repo}/issues")))
    search = Resource("search", Endpoint(path=template("search/${seed.word}")), seeds=({"word": "x"},))
    comments = Resource("comments", Endpoint(path=template("c/${parent.id}")), parents=(Parent("issues"),))
    labels = Resource("labels", None, parents=(Parent("issues", each="labels"),))
    made = plan(issues, search, comments, labels, seeds=({"repo": "a"}, {"repo": "b"}))
    tasks = list(first_tasks(made, group_of, NOW_S))
    assert [task.payload["url"] for task in tasks] == [
        "https://api.test/v1/a/issues",
        "https://api.test/v1/b/issues",
        "https://api.test/v1/search/x",
    ]
    assert {task.priority for task in tasks} == {NOW_S}
    assert [task.payload["resource"] for task in first_tasks(made, group_of, NOW_S, ["search"])] == ["search"]
    with pytest.raises(UsageError, match="no resource is called 'isues'; known resources: issues, search"):
        list(first_tasks(made, group_of, NOW_S, ["isues"]))


def test_the_payload_is_json() -> None:
    """All keys are there from the start, and it survives serialization."""
    task = first(Endpoint(path=template("x")), {"repo": "a"})
    assert task.payload == {
        "v": 1,
        "resource": "r",
        "method": "GET",
        "url": "https://api.test/v1/x",
        "headers": {},
        "body": None,
        "seed": {"repo": "a"},
        "parent": None,
        "parent_resource": None,
        "parents": {},
        "depth": 0,
        "page": 1,
    }
    assert check_payload(orjson.loads(orjson.dumps(task.payload))) == task.payload
    assert task.key == "r GET https://api.test/v1/x"
    assert task.group.name == "r GET {'repo': 'a'} None"


@pytest.mark.parametrize(
    "payload", [None, [], {}, {"v": 1, "resource": "r"}, {"v": 2, "resource": "r", "url": "u"}]
)
def test_unreadable_payloads_are_refused(payload: Any) -> None:
    """Foreign and newer payloads are refused with a reason."""
    with pytest.raises(UsageError, match="the payload"):
        check_payload(payload)


def test_values_in_a_path_are_encoded_and_null_skips_the_request() -> None:
    """A slash in a value makes no new segment; a null or `..` makes no request."""
    endpoint = Endpoint(path=template("repos/${seed.repo}/x"))
    assert first(endpoint, {"repo": "a/b c?"}).payload["url"] == "https://api.test/v1/repos/a%2Fb%20c%3F/x"
    for repo in (None, ".."):
        made = plan(Resource("r", endpoint), seeds=({"repo": repo},))
        assert list(first_tasks(made, group_of, NOW_S)) == []


def test_parameters_are_merged_typed_and_left_out_when_null() -> None:
    """The endpoint's parameters replace the client's, null is left out, a list repeats its key."""
    endpoint = Endpoint(
        path=template("x?fixed=1"),
        params={
            "per_page": 50,
            "created[gte]": template("${seed.since}"),
            "until": template("${seed.until}"),
            "flag": True,
            "tag": ["a", template("${seed.until}"), "b"],
            "none": None,
        },
    )
    client = Client(base_url="https://api.test", params={"format": "json", "per_page": 10})
    assert first(endpoint, {"since": 5.0}, client=client).payload["url"] == (
        "https://api.test/x?fixed=1&format=json&per_page=50&created%5Bgte%5D=5&flag=true&tag=a&tag=b"
    )


def test_bodies_have_a_content_type() -> None:
    """JSON keeps the types of single placeholders and omits null ones; a map under `data` is a form."""
    json = {
        "a": template("${seed.n}"),
        "b": template("${seed.none}"),
        "c": [1, None, {"d": template("x${seed.n}")}],
    }
    task = first(Endpoint(path=template("x"), method="post", json=json), {"n": 7})
    assert orjson.loads(task.payload["body"]) == {"a": 7, "c": [1, None, {"d": "x7"}]}
    assert (task.payload["method"], task.payload["headers"]) == ("POST", {"Content-Type": "application/json"})
    form = first(
        Endpoint(
            path=template("x"), method="POST", headers={"content-type": "f"}, data={"q": "a b", "n": [1, 2]}
        )
    )
    assert (form.payload["body"], form.payload["headers"]) == ("q=a%20b&n=1&n=2", {"content-type": "f"})
    text = first(Endpoint(path=template("x"), method="POST", data=template("<q>${seed.n}</q>")), {"n": 7})
    assert (text.payload["body"], text.payload["headers"]) == ("<q>7</q>", {})
    assert task.key != text.key


def test_a_line_break_in_a_header_is_refused() -> None:
    """Data cannot start another header."""
    endpoint = Endpoint(path=template("x"), headers={"X-Id": template("${seed.id}")})
    assert first(endpoint, {"id": 5}).payload["headers"] == {"X-Id": "5"}
    with pytest.raises(UsageError, match="X-Id contains a line break"):
        first(endpoint, {"id": "5\r\nEvil: 1"})


def test_the_first_request_has_its_page_number() -> None:
    """The endpoint sets it, else the paginator."""
    numbered = Paginator("page_number", base_page=0, page_param="p")
    assert first(Endpoint(path=template("x"), paginator=numbered)).payload["url"].endswith("/x?p=0")
    with_page = Endpoint(path=template("x"), params={"p": 3}, paginator=numbered)
    assert first(with_page).payload["url"].endswith("/x?p=3")


def test_url_is_used_unchanged() -> None:
    """`url` is not joined; a seed with a URL needs neither; null makes no request."""
    assert (
        first(Endpoint(url=template("https://b.test/${seed.x}")), {"x": "y"}).payload["url"]
        == "https://b.test/y"
    )
    assert first(Endpoint(), {"url": "https://c.test/z#f"}).payload["url"] == "https://c.test/z"
    assert (
        list(
            first_tasks(
                plan(Resource("r", Endpoint(url=template("https://b.test/${seed.x}/y")))), group_of, NOW_S
            )
        )
        == []
    )


def test_demo_must_be_replaced_by_a_url() -> None:
    """The caller replaces demo:// before requests are built."""
    with pytest.raises(UsageError, match="demo://"):
        first(Endpoint(path=template("x")), client=Client(base_url="demo://"))


def test_a_child_carries_only_the_fields_that_are_read() -> None:
    """They are fields of the parent and its ancestors that expressions of the child or its descendants read."""
    channels = Resource("channels", Endpoint(path=template("channels")))
    messages = Resource(
        "messages",
        Endpoint(path=template("channels/${parent.id}"), params={"k": template("${parent.kind}")}),
        parents=(Parent("channels", when=expression("parent.big != 1")),),
        include_from_parent=("name",),
    )
    replies = Resource(
        "replies",
        Endpoint(
            path=template("replies/${parent.ts}"), params={"channel": template("${resources.channels.id}")}
        ),
        parents=(Parent("messages"),),
        fields={"topic": expression("resources.channels.topic")},
    )
    limit = LimitRule("l", partition_by=("parent.team",))
    builder = TaskBuilder(plan(channels, messages, replies, rate_limits=(limit,)), group_of)
    channel = {"id": 1, "kind": "k", "name": "n", "topic": "t", "team": "T", "big": "x" * 1000}
    message = builder.child_start(
        messages,
        "channels",
        seed={},
        parent=channel,
        ancestors={"channels": channel},
        depth=1,
        priority=5.0,
        now_s=NOW_S,
    )
    assert isinstance(message, NewTask)
    assert message.payload["parent"] == {"id": 1, "kind": "k", "name": "n", "team": "T"}
    assert message.payload["parents"] == {"channels": {"id": 1, "topic": "t"}}
    assert message.payload["parent_resource"] == "channels"
    assert message.payload["depth"] == 1
    assert "x" * 1000 in message.group.name  # the group may depend on any field
    record = {"ts": "9.1", "text": "long"}
    reply = builder.child_start(
        replies,
        "messages",
        seed={},
        parent=record,
        ancestors={**message.payload["parents"], "messages": record},
        depth=2,
        priority=5.0,
        now_s=NOW_S,
    )
    assert isinstance(reply, NewTask)
    assert reply.payload["url"] == "https://api.test/v1/replies/9.1?channel=1"
    assert reply.payload["parent"] == {"ts": "9.1"}
    assert reply.payload["parents"] == {"channels": {"id": 1, "topic": "t"}}


def test_a_parent_that_is_not_a_map_is_stored_whole() -> None:
    """This is also true of a map if expressions do not name its fields."""
    items = Resource("items", Endpoint(path=template("items/${parent}")), parents=(Parent("lists"),))
    builder = TaskBuilder(plan(Resource("lists", Endpoint(path=template("l"))), items), group_of)
    task = builder.child_start(
        items, "lists", seed={}, parent=99, ancestors={"lists": 99}, depth=1, priority=0.0, now_s=NOW_S
    )
    assert isinstance(task, NewTask)
    assert (task.payload["url"], task.payload["parent"]) == ("https://api.test/v1/items/99", 99)


def test_a_next_page_changes_only_the_url_and_the_page_number() -> None:
    """Method, headers, body, seed and parent are those of the previous page; the group is determined again."""
    task = first(Endpoint(path=template("x"), method="POST", json={"a": 1}, headers={"H": "1"}), {"s": 1})
    builder = TaskBuilder(plan(Resource("r", Endpoint(path=template("x")))), group_of)
    following = builder.next_page(
        task.payload, Change(url="https://b.test/y?cursor=2"), 3.0, state={"own": {"first": "u"}}
    )
    assert following.payload == {
        **task.payload,
        "url": "https://b.test/y?cursor=2",
        "page": 2,
        "walk": {"own": {"first": "u"}},
    }
    assert following.priority == 3.0
    assert following.key.startswith("r POST https://b.test/y?cursor=2 ")


def test_a_manual_task_is_a_seed_or_a_url() -> None:
    """A map fills in the endpoint, a URL is used as it is; invalid arguments are named."""
    made = plan(
        Resource("r", Endpoint(path=template("x/${seed.id}"), params={"n": 1})),
        Resource("inside", None, parents=(Parent("r", each="l"),)),
    )
    task = seed_task(made, "r", {"id": 4}, None, 0.0, group_of, NOW_S)
    assert (task.payload["url"], task.priority) == ("https://api.test/v1/x/4?n=1", NOW_S)
    task = seed_task(made, "r", "https://b.test/as?it=is", 7.0, 30.0, group_of, NOW_S)
    assert (task.payload["url"], task.priority, task.delay_s) == ("https://b.test/as?it=is", 7.0, 30.0)
    wrong: list[tuple[str, Any, float, float, str]] = [
        ("no", {}, 0, 0, "no resource is called 'no'"),
        ("inside", {}, 0, 0, "inside has no endpoint"),
        ("r", {"id": None}, 0, 0, "the path is null"),
        ("r", "b.test/x", 0, 0, "not an http"),
        ("r", {"id": 1}, float("nan"), 0, "priority"),
        ("r", {"id": 1}, 0, -1, "delay"),
    ]
    for resource, seed, priority, delay_s, message in wrong:
        with pytest.raises(UsageError, match=message):
            seed_task(made, resource, seed, priority, delay_s, group_of, NOW_S)


def test_an_api_key_in_the_query_is_never_stored() -> None:
    """Servers echo it in their links; a stored task lacks it, however its name is spelled."""
    client = Client(base_url="https://a.test", auth=Auth("api_key", "s3cret", "api_key", "query"))
    made = plan(Resource("r", Endpoint(path=template("x"))), client=client)
    builder = TaskBuilder(made, group_of)
    [initial] = first_tasks(made, group_of, NOW_S)
    echoed = "https://a.test/x?a=b%20c&api%5Fkey=s3cret&cursor=2&api_key=s3cret"
    following = builder.next_page(initial.payload, Change(url=echoed), 0.0)
    manual = builder.from_url(made.resource("r"), echoed, 0.0, 0.0, seed={})
    for task in (following, manual):
        assert task.payload["url"] == "https://a.test/x?a=b%20c&cursor=2"
        assert "s3cret" not in f"{orjson.dumps(task.payload)!r} {task.key} {task.group}"
