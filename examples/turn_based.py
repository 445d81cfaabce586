"""Turn-based: two agents play chess, and neither can move when it is not its turn.

The state says whose turn it is. An agent waits for its turn, reads, moves, and passes the turn on; the guard of each
write makes sure that it was its turn when the write happened.
"""

from __future__ import annotations

from functools import partial

from examples.agents import Agent, refused, session, together

MOVES = {"white": ["e2e4", "g1f3", "f1b5"], "black": ["e7e5", "b8c6", "a7a6"]}
OTHER = {"white": "black", "black": "white"}


def play(agent: Agent) -> None:
    my_turn = f'state._shared.player == "{agent.name}"'
    for move in MOVES[agent.name]:
        agent.wait(my_turn)
        board, turn = agent.value("state._shared.board"), agent.value("state._shared.turn")
        this_turn = f"{my_turn} && state._shared.turn == {turn}"
        agent.write("board", move, append=True, **{"if": this_turn})
        agent.says(f"after {' '.join(board) or 'nothing'} I play {move}")
        # Whoever writes upon what was read before somebody else wrote is told so.
        with refused("version_conflict"):
            agent.write("board", ["h2h4"], if_version=1)
        agent.batch(
            {"key": "player", "value": OTHER[agent.name]},
            {"key": "turn", "value": 1, "increment": True},
            only_if=this_turn,
        )
        # The turn is over, and the guard knows, also when the other one has moved meanwhile.
        with refused("precondition_failed"):
            agent.write("board", ["h2h4"], **{"if": this_turn})


def main() -> None:
    with session("chess", "white", "black") as agents:
        white, _ = agents
        white.batch(
            {"key": "board", "value": []},
            {"key": "turn", "value": 0},
            {"key": "player", "value": "white"},
        )
        together(*(partial(play, agent) for agent in agents))
        white.says(f"{white.value('state._shared.turn')} turns: {' '.join(white.value('state._shared.board'))}")


if __name__ == "__main__":
    main()
