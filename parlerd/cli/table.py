"""The table of commands. `python -m parlerd.cli.tabling` makes it of the `HANDLERS` of each module."""

from __future__ import annotations

from typing import Final

# fmt: off
COMMANDS: Final[tuple[tuple[tuple[str, ...], str, str, str, tuple[str, ...]], ...]] = (
    (('session', 'open'), 'parlerd.cli.session', 'session.open', '', (
        'parler session open --topic auth-redesign --context "Left: token rotation."',
        'parler session open --topic auth-redesign --context-file recap.md',
    )),
    (('session', 'join'), 'parlerd.cli.session', 'session.join', '', (
        'parler session join A3KE7DJR',
        'parler --as bob session join A3KE7DJR --wait 60',
        'parler --as bob session join A3KE7DJR --role reviewer',
    )),
    (('join',), 'parlerd.cli.session', '', 'Join a channel or a session with its code.', (
        'parler join A3KE7DJR',
    )),
    (('session', 'withdraw'), 'parlerd.cli.session', 'session.withdraw', '', (
        'parler session withdraw',
        'parler --as bob session withdraw A3KE7DJR',
    )),
    (('session', 'requests'), 'parlerd.cli.session', 'session.requests', '', (
        'parler session requests --room auth-redesign',
    )),
    (('session', 'approve'), 'parlerd.cli.session', 'session.approve', '', (
        'parler session approve bob',
        'parler session approve bob --room auth-redesign --code K7QM',
    )),
    (('session', 'deny'), 'parlerd.cli.session', 'session.deny', '', (
        'parler session deny bob --room auth-redesign',
    )),
    (('session', 'close'), 'parlerd.cli.session', 'session.close', '', (
        'parler session close --room auth-redesign',
    )),
    (('session', 'list'), 'parlerd.cli.session', 'session.list', '', (
        'parler session list',
        'parler session list --all --wide',
    )),
    (('session', 'revoke'), 'parlerd.cli.session', 'session.revoke', '', (
        'parler session revoke A3KE7DJR',
    )),
    (('invite',), 'parlerd.cli.membership', 'room.invite', '', (
        'parler invite --group team',
        'parler invite --room auth-redesign --max-uses 1',
        'parler invite',
    )),
    (('room', 'leave'), 'parlerd.cli.membership', 'room.leave', '', (
        'parler room leave --room team',
    )),
    (('room', 'kick'), 'parlerd.cli.membership', 'room.kick', '', (
        'parler room kick bob --room team',
    )),
    (('role',), 'parlerd.cli.membership', 'room.role', '', (
        'parler role bob reviewer --room team',
        'parler role bob admin --lock',
        "parler role bob ''",
    )),
    (('room', 'transfer'), 'parlerd.cli.membership', 'room.transfer', '', (
        'parler room transfer bob --room team',
    )),
    (('room', 'successor'), 'parlerd.cli.membership', 'room.successor', '', (
        'parler room successor bob --room auth-redesign',
        'parler room successor --none',
    )),
    (('room', 'takeover'), 'parlerd.cli.membership', 'room.takeover', '', (
        'parler room takeover team',
    )),
    (('room', 'continue'), 'parlerd.cli.membership', 'room.continue', '', (
        'parler room continue auth-redesign',
        'parler room continue auth-redesign --without-owner',
    )),
    (('room', 'turns'), 'parlerd.cli.membership', 'room.turns', '', (
        'parler room turns auth-redesign 40',
        'parler room turns auth-redesign default',
    )),
    (('room', 'retention'), 'parlerd.cli.membership', 'room.retention', '', (
        'parler room retention auth-redesign --messages 5000 --days 30',
        'parler room retention auth-redesign --days default',
    )),
    (('room', 'archive'), 'parlerd.cli.membership', 'room.archive', '', (
        'parler room archive team',
    )),
    (('room', 'delete'), 'parlerd.cli.membership', 'room.delete', '', (
        'parler room delete team',
    )),
    (('bring',), 'parlerd.cli.bring', 'session.bring', '', (
        'parler bring codex "Review what claude wrote."',
        'parler bring claude-code --context "Left: rotation." --dry-run',
        'parler bring gemini "Plan the rest." --room auth-redesign --headless',
    )),
    (('approvals',), 'parlerd.cli.approvals', 'approvals.list', '', (
        'parler approvals',
        'parler approvals --once --json',
    )),
    (('send',), 'parlerd.cli.messages', 'message.send', '', (
        'parler send --room auth-redesign "on it, taking token rotation"',
        'git diff | parler send --room auth-redesign --kind review -',
        'parler send --service review "review PR #42"',
    )),
    (('withdraw',), 'parlerd.cli.messages', 'message.withdraw', '', (
        'parler withdraw m_0123456789abcdefghij',
    )),
    (('recv',), 'parlerd.cli.messages', 'message.recv', '', (
        'parler recv',
        'parler --as bob recv --room auth-redesign --wait 60',
        'parler recv --all --wide',
    )),
    (('disclosures',), 'parlerd.cli.messages', 'message.disclosures', '', (
        'parler disclosures',
        'parler disclosures --after 0 --room auth-redesign',
    )),
    (('why',), 'parlerd.cli.messages', 'message.why', '', (
        'parler why 7 --room auth-redesign',
    )),
    (('remember',), 'parlerd.cli.memory', 'memory.remember', '', (
        'parler remember --room team "deploy strategy is blue-green"',
        'parler remember --key deploy-strategy blue-green',
    )),
    (('recall',), 'parlerd.cli.memory', 'memory.recall', '', (
        'parler recall deploy',
        'parler recall --room team deploy',
    )),
    (('forget',), 'parlerd.cli.memory', 'memory.forget', '', (
        'parler forget --key deploy-strategy',
    )),
    (('push',), 'parlerd.cli.files', '', 'Share commits of this repository with a room, as a bundle.', (
        'parler push',
        'parler push --base main --worktree',
        "parler push feature --note 'the login form'",
    )),
    (('apply',), 'parlerd.cli.files', '', 'Take shared commits into this repository, under a ref of their own.', (
        'parler apply 12',
    )),
    (('send-file',), 'parlerd.cli.files', '', 'Share a file with a room.', (
        'parler send-file report.pdf',
        'parler send-file report.pdf --room auth-redesign',
    )),
    (('fetch',), 'parlerd.cli.files', '', 'Fetch a shared file.', (
        'parler fetch 12 -o report.pdf',
    )),
    (('serve',), 'parlerd.cli.work', 'queue.serve', '', (
        'parler serve review',
        'parler --json serve review --watch',
    )),
    (('claim',), 'parlerd.cli.work', 'task.claim', '', (
        'parler claim --service review --wait 60',
        'parler claim 7 --lease 900',
    )),
    (('renew',), 'parlerd.cli.work', 'task.renew', '', (
        'parler renew 7 --lease 900',
    )),
    (('release',), 'parlerd.cli.work', 'task.release', '', (
        'parler release 7',
    )),
    (('complete',), 'parlerd.cli.work', 'task.complete', '', (
        'parler complete 7 --fence 12 --result "approved, two remarks"',
        'parler complete 7 --result "the report" --blob 9',
    )),
    (('task',), 'parlerd.cli.work', 'task.say', '', (
        'parler task working --note "reading the diff"',
        'parler task failed --task 7',
    )),
    (('view',), 'parlerd.cli.view', 'page.open', '', (
        'parler view',
        'parler view --room auth-redesign',
        'parler view --list',
    )),
    (('state', 'get'), 'parlerd.cli.state', 'state.get', '', (
        'parler state get phase',
        'parler state get x --json',
    )),
    (('state', 'list'), 'parlerd.cli.state', 'state.list', '', (
        'parler state list',
        'parler state list --at-seq 7',
    )),
    (('state', 'set'), 'parlerd.cli.state', 'state.set', '', (
        'parler state set phase planning',
        'parler state set tasks_done 1 --increment',
        'parler state set config \'{"retries": 3}\' --merge --if-version 4',
    )),
    (('state', 'delete'), 'parlerd.cli.state', 'state.delete', '', (
        'parler state delete phase',
    )),
    (('state', 'batch'), 'parlerd.cli.state', 'state.batch', '', (
        'parler state batch --file writes.json',
    )),
    (('state', 'history'), 'parlerd.cli.state', 'state.history', '', (
        'parler state history phase',
    )),
    (('state', 'private'), 'parlerd.cli.state', 'state.hide', '', (
        'parler state private on',
    )),
    (('timer', 'renew'), 'parlerd.cli.state', 'timer.renew', '', (
        'parler timer renew fire_lit',
    )),
    (('eval',), 'parlerd.cli.state', 'state.evaluate', '', (
        "parler eval 'state._shared.turn > 2'",
    )),
    (('wait',), 'parlerd.cli.state', 'state.wait', '', (
        "parler wait 'state._shared.turn == 2' --timeout 60 --include state,agents",
    )),
    (('view', 'set'), 'parlerd.cli.state', '', 'Name an expression, whose value is read like that of a key.', (
        'parler view set ready \'agents.all(a, agents[a].status == "active")\'',
    )),
    (('view', 'list'), 'parlerd.cli.state', '', 'Show the views of a room, and what each is worth to you.', (
        'parler view list',
    )),
    (('view', 'delete'), 'parlerd.cli.state', '', 'Delete a view.', (
        'parler view delete ready',
    )),
    (('state', 'watch'), 'parlerd.cli.state_watch', 'state.changes', '', (
        'parler state watch',
        'parler state watch --scope _shared --key phase --json',
    )),
    (('board',), 'parlerd.cli.board', 'room.board', '', (
        'parler board',
        'parler board auth-redesign --once',
        'parler board --json',
    )),
    (('affordances',), 'parlerd.cli.actions', 'room.affordances', '', (
        'parler affordances',
    )),
    (('action', 'register'), 'parlerd.cli.actions', 'action.register', '', (
        'parler action register --file stoke.json',
    )),
    (('action', 'list'), 'parlerd.cli.actions', 'action.list', '', (
        'parler action list',
        'parler action list craft --expand-params',
    )),
    (('action', 'invoke'), 'parlerd.cli.actions', 'action.invoke', '', (
        'parler action invoke stoke_fire',
        'parler action invoke craft --params \'{"item": "trap"}\'',
    )),
    (('action', 'delete'), 'parlerd.cli.actions', 'action.delete', '', (
        'parler action delete stoke_fire',
    )),
    (('enabled',), 'parlerd.cli.modules', 'agent.enable', '', (
        'parler enabled \'state._shared.phase == "review"\'',
        'parler enabled --always',
    )),
    (('module', 'register'), 'parlerd.cli.modules', 'module.register', '', (
        "parler module register path --enabled 'has(state._shared.compass)'",
    )),
    (('module', 'list'), 'parlerd.cli.modules', 'module.list', '', (
        'parler module list',
    )),
    (('module', 'delete'), 'parlerd.cli.modules', 'module.delete', '', (
        'parler module delete path',
    )),
    (('handoff',), 'parlerd.cli.handoff', 'handoff.give', '', (
        'parler handoff --for bob --summary "rotation is done" --next "wire the UI"',
        'parler handoff --goal "new login" --decision "use PKCE" --next "wire the UI"',
        'parler handoff --for bob --next "review and merge" --bundle 12 --transcript 20',
    )),
    (('handoff', 'accept'), 'parlerd.cli.handoff', 'handoff.accept', '', (
        'parler handoff accept 7 --room auth-redesign',
    )),
    (('handoff', 'decline'), 'parlerd.cli.handoff', 'handoff.decline', '', (
        'parler handoff decline 7 --reason "no access to the web repository"',
    )),
    (('handoff', 'withdraw'), 'parlerd.cli.handoff', 'handoff.withdraw', '', (
        'parler handoff withdraw 7',
    )),
    (('handoff', 'show'), 'parlerd.cli.handoff', 'handoff.show', '', (
        'parler handoff show',
        'parler handoff show 7 --room auth-redesign',
    )),
    (('rooms',), 'parlerd.cli.rooms', 'rooms.list', '', (
        'parler rooms',
        'parler rooms --size',
        'parler rooms --all --wide',
    )),
    (('roster',), 'parlerd.cli.rooms', 'rooms.roster', '', (
        'parler roster --room auth-redesign',
    )),
    (('whoami',), 'parlerd.cli.rooms', 'agent.whoami', '', (
        'parler whoami',
        'parler --as bob whoami',
    )),
    (('presence',), 'parlerd.cli.rooms', 'agent.presence', '', (
        'parler presence busy running the long tests',
        'parler presence none',
    )),
    (('attention',), 'parlerd.cli.rooms', 'agent.attention', '', (
        'parler attention dnd --as bob',
        'parler attention muted --room auth-redesign',
    )),
    (('room', 'verify'), 'parlerd.cli.rooms', 'room.verify', '', (
        'parler room verify auth-redesign',
        'parler room verify --json',
    )),
    (('room', 'rewind'), 'parlerd.cli.rooms', 'room.rewind', '', (
        'parler room rewind auth-redesign',
    )),
    (('register',), 'parlerd.cli.directory', 'directory.register', '', (
        'parler register --public --tag planning --skill decompose',
        'parler register --describe "Plans in ordered steps."',
    )),
    (('discover',), 'parlerd.cli.directory', 'directory.discover', '', (
        'parler discover',
        'parler discover --public --tag planning --online',
    )),
    (('card',), 'parlerd.cli.directory', 'directory.card', '', (
        'parler card bob',
    )),
    (('watch',), 'parlerd.cli.watch', 'room.watch', '', (
        'parler watch --room auth-redesign',
    )),
    (('receipt', 'show'), 'parlerd.cli.receipts', 'receipt.get', '', (
        'parler receipt show 12',
        'parler receipt show m_0123456789abcdefghij --json > receipt.json',
    )),
    (('receipt', 'export'), 'parlerd.cli.receipts', '', 'Show a receipt with all that its check can use.', (
        'parler receipt export 12 > receipt.json',
    )),
    (('receipt', 'list'), 'parlerd.cli.receipts', 'receipt.list', '', (
        'parler receipt list',
        'parler receipt list --room team --limit 10',
    )),
    (('receipt', 'verify'), 'parlerd.cli.receipts', '', 'Check receipts, without asking anybody.', (
        'parler receipt verify receipt.json',
    )),
    (('receipt', 'keys'), 'parlerd.cli.receipts', 'receipt.keys', '', (
        'parler receipt keys',
    )),
    (('audit',), 'parlerd.cli.receipts', '', 'Check that what this home keeps is what was stored and signed.', (
        'parler audit',
    )),
    (('token', 'mint'), 'parlerd.cli.token', 'token.mint', '', (
        'parler --as bob token mint --room team',
        'parler token mint --room team --room annex',
        'parler token mint --join --room team --uses 3',
        'parler token mint --invite A3KE7DJR --uses 3',
        'parler token mint --opens 5',
        'parler token mint --room team --name ci',
    )),
    (('token', 'list'), 'parlerd.cli.token', 'token.list', '', (
        'parler token list',
    )),
    (('token', 'revoke'), 'parlerd.cli.token', 'token.revoke', '', (
        'parler token revoke tk_0123456789abcdefghij',
    )),
    (('serve-http',), 'parlerd.cli.token', 'http.serve', '', (
        'parler serve-http --port 8756',
    )),
    (('connect',), 'parlerd.cli.connect', '', 'Add Parler to every agent host on this machine.', (
        'parler connect',
        'parler connect --list',
        'parler connect claude-code codex --verify',
    )),
    (('homes',), 'parlerd.cli.homes', 'homes.list', '', (
        'parler homes',
    )),
    (('homes', 'remove'), 'parlerd.cli.homes', 'homes.remove', '', (
        'parler homes remove team-7f3k2q',
    )),
    (('relay',), 'parlerd.cli.relay', '', 'Run a relay in this terminal, for sessions across machines.', (
        'parler relay --bind 192.168.1.20',
        'parler relay --store postgresql://parler@db/parler',
    )),
    (('relay', 'status'), 'parlerd.cli.relay', 'relay.status', '', (
        'parler relay status',
    )),
    (('relay', 'start'), 'parlerd.cli.relay', '', 'Start the relay that `parler connect --team` made.', (
        'parler relay start',
    )),
    (('relay', 'stop'), 'parlerd.cli.relay', 'relay.stop', '', (
        'parler relay stop',
    )),
    (('relay', 'logs'), 'parlerd.cli.relay', '', "Show the end of the relay's log.", (
        'parler relay logs --follow',
    )),
    (('relay', 'members'), 'parlerd.cli.relay', 'relay.members', '', (
        'parler relay members',
    )),
    (('relay', 'kick'), 'parlerd.cli.relay', 'relay.kick', '', (
        'parler relay kick ben',
    )),
    (('relay', 'backup'), 'parlerd.cli.relay', 'relay.backup', '', (
        'parler relay backup relay-2026-11-28.tar',
    )),
    (('relay', 'migrate'), 'parlerd.cli.relay_store', '', "Make the tables of a relay's database, as their owner.", (
        'parler relay migrate --store postgresql://owner@db/parler --role parler',
    )),
    (('relay', 'move'), 'parlerd.cli.relay_store', '', "Move the relay's rooms into a database, or back.", (
        'parler relay move --to postgresql://parler@db/p --owner postgresql://boss@db/p',
        'parler relay move --to sqlite',
    )),
    (('relay', 'accept-restore'), 'parlerd.cli.relay_store', '', 'Take the database as it is, after a restore.', (
        'parler relay accept-restore',
    )),
    (('daemon', 'start'), 'parlerd.cli.daemon', '', 'Start the daemon, and wait until it answers.', (
        'parler daemon start',
    )),
    (('daemon', 'stop'), 'parlerd.cli.daemon', 'daemon.stop', '', (
        'parler daemon stop',
    )),
    (('daemon', 'restart'), 'parlerd.cli.daemon', '', 'Stop the daemon and start it again.', (
        'parler daemon restart',
    )),
    (('daemon', 'status'), 'parlerd.cli.daemon', 'daemon.status', '', (
        'parler daemon status',
    )),
    (('daemon', 'logs'), 'parlerd.cli.daemon', '', "Show the end of the daemon's log.", (
        'parler daemon logs --follow',
        'parler daemon logs -n 200',
        'parler daemon logs --frames',
    )),
    (('doctor',), 'parlerd.cli.doctor', '', 'Check everything, and name the fix for what is wrong.', (
        'parler doctor',
        'parler doctor --probe claude-code',
    )),
    (('demo',), 'parlerd.cli.program', '', 'Show the main job, end to end, in a throw-away home.', (
        'parler demo',
        'parler demo --team',
    )),
    (('version',), 'parlerd.cli.program', '', 'Show the version of this install and of the daemon.', (
        'parler version --json',
    )),
    (('mcp',), 'parlerd.cli.program', '', 'Run the MCP server on stdin and stdout, as agent hosts do.', (
        'parler mcp --host claude-code',
    )),
    (('hook',), 'parlerd.cli.hook', '', 'Tell an agent host how much waits (`connect --wake`).', (
        'parler hook claude-code Stop',
    )),
    (('completion',), 'parlerd.cli.completion', '', 'Print the script that completes commands in a shell.', (
        'parler completion bash > ~/.local/share/bash-completion/completions/parler',
        'parler completion fish > ~/.config/fish/completions/parler.fish',
    )),
    (('help',), 'parlerd.cli.help', '', 'Explain a command or the code of an error.', (
        'parler help session open',
        'parler help unknown_key',
    )),
)
SECTIONS: Final[tuple[tuple[str, tuple[str, ...]], ...]] = (
    ('Begin', (
        'connect',
        'demo',
        'session open',
        'bring',
        'session join',
        'session withdraw',
        'invite',
        'join',
    )),
    ('Who may come in', (
        'approvals',
        'session requests',
        'session approve',
        'session deny',
        'session revoke',
        'session close',
        'room leave',
        'room kick',
        'role',
        'room transfer',
        'room successor',
        'room takeover',
        'room continue',
        'room turns',
        'room retention',
        'room archive',
        'room delete',
    )),
    ('Talk', (
        'send',
        'recv',
        'handoff',
        'handoff accept',
        'handoff decline',
        'handoff withdraw',
        'handoff show',
        'serve',
        'claim',
        'renew',
        'release',
        'complete',
        'watch',
        'remember',
        'recall',
        'forget',
        'push',
        'apply',
        'send-file',
        'fetch',
        'task',
        'why',
        'disclosures',
        'withdraw',
        'presence',
        'attention',
    )),
    ('Coordinate', (
        'state set',
        'state list',
        'state get',
        'state delete',
        'state batch',
        'state history',
        'state watch',
        'board',
        'state private',
        'timer renew',
        'eval',
        'wait',
        'view set',
        'view list',
        'view delete',
        'affordances',
        'action register',
        'action list',
        'action invoke',
        'action delete',
        'enabled',
        'module register',
        'module list',
        'module delete',
    )),
    ('Look around', (
        'view',
        'rooms',
        'session list',
        'roster',
        'whoami',
        'register',
        'discover',
        'card',
        'receipt show',
        'receipt export',
        'receipt list',
        'receipt verify',
        'receipt keys',
        'audit',
    )),
    ('Programs over HTTP', (
        'serve-http',
        'token mint',
        'token list',
        'token revoke',
    )),
    ('Sessions across machines', (
        'homes',
        'homes remove',
        'room verify',
        'room rewind',
        'relay',
        'relay status',
        'relay start',
        'relay stop',
        'relay logs',
        'relay members',
        'relay kick',
        'relay backup',
        'relay migrate',
        'relay move',
        'relay accept-restore',
    )),
    ('This install', (
        'doctor',
        'daemon status',
        'daemon logs',
        'daemon start',
        'daemon stop',
        'daemon restart',
        'completion',
        'version',
        'help',
    )),
    ('Started by agent hosts', (
        'mcp',
        'hook',
    )),
)
