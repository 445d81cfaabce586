"""Every line of the security spec that is due has its tests: here, and elsewhere where the part is that keeps it.

The table is the map for whoever asks what holds a promise; these tests hold the map to the code.
"""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]

ELSEWHERE: dict[str, tuple[str, ...]] = {
    "A1": (
        "operations/test_tools.py::test_no_operation_of_the_person_plane_is_reachable_by_a_tool",
        "arch/test_registry.py::test_what_belongs_to_the_person_has_a_command_and_no_tool",
    ),
    "A2": (
        "mcp_server/test_approve.py::test_the_form_tells_facts_as_claims_and_how_to_refuse",
        "ipc/test_process.py::test_an_agent_among_the_ancestors_is_found_though_the_environment_was_cleared",
        "ipc/test_credentials.py::test_a_process_that_is_gone_is_not_taken_for_a_person",
        "cli/test_session.py::test_only_the_code_typed_at_a_terminal_claims_the_terminal_proof",
    ),
    "A3": (
        "cli/test_approvals_model.py::test_no_single_key_approves_or_denies",
        "cli/test_approvals_model.py::test_an_arrival_neither_moves_the_selection_nor_the_rows_above_it",
        "cli/test_approvals_model.py::test_keys_are_ignored_for_half_a_second_after_the_list_changed",
        "cli/test_approvals_model.py::test_denying_a_queue_denies_all_that_used_the_same_key_in_the_same_room",
    ),
    "A4": (
        "cli/test_session.py::test_requests_shows_names_as_claims_and_the_approving_command_alone",
        "cli/test_approvals.py::test_the_screen_shows_who_knocks_as_a_claim",
    ),
    "B5": ("identity/test_signatures.py",),
    "B6": ("engine/test_seats.py::test_a_window_that_came_back_after_a_restart_holds_its_agent_before_its_first_call",),
    "B7": (
        "core/test_envelope.py",
        "uplink/arriving/test_items.py::test_an_honest_home_is_never_accused",
        "uplink/arriving/test_pages.py::test_a_fork_shows_at_the_first_message_that_crosses",
        "uplink/arriving/test_pages.py::test_a_private_message_that_is_withheld_shows_at_the_next_one_of_its_thread",
    ),
    "C8": (
        "mcp_server/test_fence.py::test_whatever_the_text_it_stays_between_the_two_marked_lines",
        "mcp_server/test_results.py::test_no_string_of_another_party_stands_outside_a_fence",
        "mcp_server/test_results.py::test_an_error_fences_what_its_details_repeat",
        "engine/test_waking.py::test_a_hook_is_told_counts_and_ids_and_nothing_that_anybody_wrote",
        "mcp_server/test_hook.py::test_what_is_no_id_is_not_said_even_if_a_daemon_says_it",
        "security/test_link_words.py::test_c8_no_sentence_of_a_relay_is_in_any_answer",
        "wire/test_link.py::test_of_an_error_a_link_carries_the_code_the_wait_and_plain_details_and_no_sentence",
        "wire/test_link.py::test_whatever_a_relay_says_of_an_error_only_labels_and_numbers_remain",
    ),
    "C9": ("cli/test_printable.py::test_nothing_that_controls_reorders_or_hides_text_survives",),
    "C10": ("engine/test_following.py::test_an_outsider_hears_the_same_bytes_whatever_is_hidden_from_it",),
    "D11": (
        "e2e/test_privacy.py::test_nothing_of_whoever_starts_the_daemon_is_in_it_and_it_keeps_to_itself",
        "settings/test_paths.py::test_a_directory_of_another_user_is_refused",
        "ipc/test_credentials.py::test_every_other_user_is_refused_and_root_too",
        "client/test_client.py::test_a_socket_that_another_user_serves_is_told_nothing",
    ),
    "D12": (
        "engine/test_handles.py::test_a_home_that_nobody_added_is_asked_nothing",
        "engine/test_handles.py::test_a_key_of_another_home_that_nobody_typed_asks_nothing_there_until_somebody_does",
        "connections/test_dial.py::test_the_environments_proxy_is_not_asked",
        "connections/test_dial.py::test_what_answers_and_is_no_relay_is_one_error_and_is_not_followed",
        "uplink/test_link.py::test_a_relay_that_nobody_needs_is_not_dialled",
    ),
    "D13": (
        "engine/test_workspace_files.py",
        "engine/test_sharing.py::test_nothing_outside_the_workspace_is_shared_or_written",
        "engine/test_sharing.py::test_only_a_window_has_the_daemon_touch_files",
    ),
    "D14": (
        "git/test_hostile.py",
        "git/test_running.py",
        "git/test_applying.py::test_a_tree_that_would_write_elsewhere_when_checked_out_is_refused",
        "git/test_applying.py::test_an_id_that_parler_did_not_make_never_becomes_a_part_of_a_ref",
        "git/test_bundles.py::test_any_bytes_give_a_header_or_one_documented_error",
        "git/test_pushing.py::test_a_name_that_is_no_refs_is_refused_before_git_sees_it",
        "engine/test_sharing.py::test_git_works_on_the_repository_of_the_workspace_and_on_no_other",
    ),
    "D15": (
        "contract/test_blobs.py::test_nobody_learns_what_another_brought",
        "engine/test_files.py::test_no_answer_about_an_upload_depends_on_what_others_have",
        "engine/test_files.py::test_what_is_no_blob_is_not_found_and_is_no_path",
        "scenario/test_files.py::test_who_may_read_a_file_may_bring_it_to_the_room_again",
    ),
    "D16": ("e2e/test_privacy.py::test_keys_seeds_and_texts_stand_nowhere_they_need_not", "core/test_scrub.py"),
    "D17": (
        "store/test_deleting.py",
        "store/test_sqlite.py::test_words_that_were_erased_are_nowhere_in_the_file",
        "store/test_blobs.py::test_every_file_is_its_users_alone_whatever_the_umask",
        "scenario/test_deleting.py",
        "identity/test_delegation.py::test_a_delegation_names_agent_person_and_thirty_days",
    ),
    "E18": ("engine/test_throttle.py",),
    "E20": (
        "core/test_loops.py",
        "engine/test_continuing.py",
        "engine/test_waking.py::test_at_the_end_of_the_budget_no_turn_begins_reading_goes_on_and_it_is_said",
        "engine/test_waking.py::test_the_budget_is_one_for_all_agents_of_a_person",
    ),
    "E19": ("engine/test_sending.py::test_a_replay_is_authorised_first",),
    "F23": (
        "relay/test_link.py::test_a_proof_that_was_given_elsewhere_is_refused",
        "relay/test_link.py::test_the_relays_own_proof_sent_back_is_refused",
        "relay/test_link.py::test_who_does_not_show_the_secret_is_not_enrolled",
        "relay/test_link.py::test_whatever_comes_before_the_proof_reaches_no_engine",
        "relay/test_door.py::test_one_address_has_eight_places_and_keeps_nobody_else_out",
        "relay/test_door.py::test_a_request_names_an_address_or_a_name_of_this_relay",
        "relay/test_door.py::test_a_head_that_trickles_in_is_not_waited_for",
        "relay/test_door.py::test_a_tls_greeting_that_trickles_in_is_not_waited_for",
        "relay/test_door.py::test_a_flood_from_many_addresses_is_held_to_sixty_four",
        "relay/test_door.py::test_a_compressed_bomb_is_not_unpacked_because_nothing_is",
        "relay/test_door.py::test_fragments_without_an_end_are_not_kept_without_end",
        "relay/test_door.py::test_a_peer_that_is_gone_without_a_word_is_noticed_within_45_seconds",
        "relay/test_door.py::test_a_relay_that_is_gone_without_a_word_is_noticed_within_45_seconds",
        "relay/test_turnstile.py::test_strangers_who_hold_all_places_keep_nobody_out_whose_address_is_known",
        "relay/test_turnstile.py::test_strangers_who_guess_from_many_addresses_hold_back_strangers_alone",
        "relay/test_link.py::test_a_slow_trickle_does_not_lengthen_the_time_for_the_proof",
        "relay/test_link.py::test_a_message_is_small_until_the_proof_and_larger_after_it",
        "relay/test_enrolment.py::test_a_secret_of_128_bits_is_made_once_and_kept_private",
        "relay/test_enrolment.py::test_the_secret_is_in_no_error_and_no_repr",
        "identity/test_transcript.py::test_a_proof_that_was_given_here_is_worth_nothing_with",
        "wire/test_link.py::test_before_the_welcome_a_frame_has_64_kib_and_after_it_the_daemon_sends_1_mib_and_the_relay_8",
        "relay/test_door.py::test_a_page_in_a_browser_has_no_business_at_the_link",
        "relay/test_enrolment.py::test_new_people_come_at_a_bounded_rate_and_those_who_are_known_at_any",
        "engine/test_linking.py::test_nobody_is_attached_without_the_persons_word_and_its_own_for_this_very_link",
        "engine/test_letting_in.py::test_nobody_comes_in_with_a_role_that_stands_for_somebody_else",
        "engine/test_letting_in.py::test_a_decision_of_anybody_but_the_owners_side_lets_nobody_in",
        "engine/test_letting_in.py::test_one_persons_guesses_are_slowed_down_and_delay_nobody_else",
        "engine/test_admitting.py::test_whoever_may_not_know_a_room_hears_that_there_is_none",
        "engine/test_admitting.py::test_what_all_agents_of_a_person_post_is_one_budget",
        "uplink/test_connection.py::test_a_relay_that_cannot_prove_the_key_we_know_is_told_nothing",
        "uplink/test_connection.py::test_a_relay_that_stands_between_us_and_the_real_one_gets_nowhere",
        "uplink/test_connection.py::test_nothing_of_the_machine_crosses_with_the_hello_and_no_secret_ever",
        "uplink/test_connection.py::test_the_secret_enrols_a_person_once_and_their_key_logs_in_from_then_on",
        "uplink/test_connection.py::test_a_person_who_was_kicked_comes_back_with_the_new_secret_alone",
        "uplink/test_uplinks.py::test_nothing_is_stored_where_the_key_or_the_secret_is_wrong_or_nobody_answers",
        "uplink/arriving/test_items.py::test_a_lie_shows",
        "uplink/arriving/test_knocks.py::test_a_decision_that_is_for_somebody_else_or_by_somebody_else_makes_nobody_a_member",
        "uplink/arriving/test_knocks.py::test_a_knock_with_a_gated_key_makes_nobody_a_member",
        "e2e/test_relay.py::test_keys_and_the_join_secret_stand_in_no_file_but_their_own_and_in_no_command_line",
    ),
}
"""What keeps each line beside the tests of this folder, whose names begin with the line."""


@cache
def names_in(path: Path) -> frozenset[str]:
    tree = ast.parse(path.read_text())
    return frozenset(
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    )


@pytest.mark.parametrize("line", ELSEWHERE)
def test_a_line_that_is_due_has_a_test_here_that_bears_its_name(line: str) -> None:
    here = {name for path in Path(__file__).parent.glob("test_*.py") for name in names_in(path)}
    assert any(name.startswith(f"test_{line.lower()}_") for name in here)


@pytest.mark.parametrize("line", ELSEWHERE)
def test_what_keeps_a_line_elsewhere_is_still_there(line: str) -> None:
    for where in ELSEWHERE[line]:
        file, _, name = where.partition("::")
        assert (TESTS / file).is_file(), where
        assert name in names_in(TESTS / file) if name else names_in(TESTS / file), where
