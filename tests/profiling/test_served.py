"""Models on a server: prompts come near their length by the server's own count, and none is asked twice."""

import pytest

from mlxnb.backends.server import ServerBackend
from mlxnb.profiling import Plan, profile
from mlxnb.profiling.judge.figures import Summary
from mlxnb.profiling.judge.rules import findings
from mlxnb.profiling.show.markdown import to_markdown
from mlxnb.runtime import Engine
from tests.backends.served import LONG, nothing_set  # noqa: F401
from tests.endpoint import DONE, Endpoint, Reply, piece, usage

pytest.importorskip("openai", reason="the server backend needs the openai package")


class Counting(Endpoint):
    """A server whose tokens are pairs of letters; `silent` it counts none."""

    def __init__(self, silent=False):
        self.silent = silent
        super().__init__(Reply())

    def prompt(self, asked):
        body = asked.body
        return body["prompt"] if "prompt" in body else "".join(each["content"] for each in body["messages"])

    def reply(self):
        counted = () if self.silent else (usage(len(self.prompt(self.asked[-1])) // 2 + 9, 2),)
        said = [{"choices": [{"index": 0, "text": text}]} for text in ("yes ", "it is")]
        chat = [piece("yes "), piece("it is"), piece(finish="stop")]
        return Reply((*(chat if self.asked[-1].path.endswith("chat/completions") else said), *counted, DONE))


@pytest.fixture
def server(alone, nothing_set):  # noqa: F811
    endpoints = []

    def measured(silent=False, **options):
        endpoints.append(Counting(silent))
        engine = Engine({"server": ServerBackend(LONG)}, caching=False)
        try:
            asked = Plan.of(models=endpoints[-1].url, backend="server", inside=False, **options)
            return profile(engine, asked), endpoints[-1]
        finally:
            engine.close()

    yield measured
    for endpoint in endpoints:
        endpoint.close()


def test_prompts_come_to_their_length_by_the_servers_count(server):
    report, endpoint = server(scenarios="medium", prompt_tokens=[300], runs=3)
    for place, length in ((0, 256), (1, 300)):
        runs = report.of(place)
        assert len(runs) == 3
        assert all(run.clients for run in runs)
        assert all(
            abs(run.timings.prompt_tokens - length) <= 30 for run in runs
        )  # three words of a mark differ by letters
        assert Summary.of(report, place).ttft.median > 0
        assert report.cases[place].tokenising is None
    measured = [
        asked
        for asked in endpoint.asked
        if asked.body.get("max_tokens", asked.body.get("max_completion_tokens", 0)) != 1
    ]
    prompts = [endpoint.prompt(asked) for asked in measured]
    assert len(set(prompts)) == len(prompts) == 8  # warm-ups included: nothing that a server could have kept
    assert len(endpoint.asked) - len(prompts) <= 2 * 2 * 9


def test_a_conversation_with_a_server_grows(server):
    report, endpoint = server(scenarios="multi-turn", runs=1, warmup=0)
    assert [run.turn for run in report.runs] == [0, 1, 2]
    last = endpoint.asked[-1].body["messages"]
    assert [each["role"] for each in last] == ["user", "assistant", "user", "assistant", "user"]
    assert last[1]["content"] == "yes it is"


def test_a_server_that_counts_nothing_is_said(server):
    report, _ = server(silent=True, scenarios="medium", runs=1, warmup=0)
    assert "counts no tokens" in report.cases[0].notes[0]
    assert report.runs[0].generation_tokens == 2
    found = Summary.of(report, 0)
    assert found.ttft.median > 0
    assert found.prompt_tokens is found.reused_tokens is found.prefill_rate is None  # and not 0


def test_a_servers_memory_is_not_this_processs(server):
    report, _ = server(scenarios="medium", runs=1, warmup=0, stress=0.5)
    assert Summary.of(report, 0).peak_rss is None
    assert sum("energy and memory of a server's model not measured" in note for note in report.notes) == 1
    (stressed,) = report.stress
    assert (stressed.verdict, stressed.memory, stressed.fragmentation) == ("not seen: a server's", (), None)
    assert stressed.requests > 0
    (nothing,) = findings(report)
    assert "leak: no stress that tells: not seen: a server's" in nothing.evidence
    assert "growth" not in to_markdown(report)


def test_a_servers_memory_is_not_waited_for(server):
    report, _ = server(scenarios="medium", runs=1, warmup=0, stress="settled")
    assert report.stress == ()
    (note,) = [note for note in report.notes if note.startswith("stress")]
    assert "nobody here sees settle. Give it a time: --stress 60" in note
