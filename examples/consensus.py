"""Consensus: three agents vote at once, a view says when enough did, and exactly one of two closes the vote.

Votes are increments, so none is lost. Both deciders wait for the same view and both want to write the outcome; the
guard lets one of them through.
"""

from __future__ import annotations

from functools import partial

from examples.agents import Agent, Refused, session, together

VOTES = {"ann": "votes_for", "ben": "votes_against", "cleo": "votes_for"}


def vote(agent: Agent) -> None:
    agent.wait('has(state._shared.phase) && state._shared.phase == "voting"')
    agent.write(VOTES[agent.name], 1, increment=True)
    agent.says(f"I count among {VOTES[agent.name]}")


def decide(agent: Agent) -> None:
    agent.wait("state._view.quorum_met")
    outcome = agent.value('state._shared.votes_for > state._shared.votes_against ? "approved" : "rejected"')
    try:
        agent.batch(
            {"key": "phase", "value": "decided"},
            {"key": "outcome", "value": outcome},
            {"key": "decided_by", "value": agent.name},
            only_if='state._shared.phase == "voting" && state._view.quorum_met',
        )
        agent.says(f"it is {outcome}")
    except Refused as error:
        if error.code != "precondition_failed":
            raise
        agent.says(f"{agent.value('state._shared.decided_by')} was first")


def main() -> None:
    with session("vote", "chair", "deputy", *VOTES) as (chair, deputy, *voters):
        chair.view("quorum_met", "state._shared.votes_for + state._shared.votes_against >= state._shared.quorum")
        chair.batch(
            {"key": "quorum", "value": len(VOTES)},
            {"key": "votes_for", "value": 0},
            {"key": "votes_against", "value": 0},
            {"key": "phase", "value": "voting"},
        )
        together(
            *(partial(vote, each) for each in voters),
            partial(decide, chair),
            partial(decide, deputy),
        )


if __name__ == "__main__":
    main()
