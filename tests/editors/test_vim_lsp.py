"""The same through vim-lsp: against a stand-in of its functions, and for real where it is there.

$VIM_LSP_DIR names a checkout of vim-lsp. It is in no package registry, so that nothing installs it.
"""

import os
from pathlib import Path
from typing import Any

import pytest

from tests.editors.vim import needs_vim, run_script
from tests.server.editor import SCRIPTED

pytestmark = needs_vim

# What of vim-lsp the adapter uses, as functions that note how they are called.
STAND_IN = r"""
let g:calls = []
function! lsp#default_get_supported_capabilities(_info) abort
  return {'textDocument': {'codeAction': {}}}
endfunction
function! lsp#register_server(info) abort
  let g:server = a:info
endfunction
function! lsp#register_notifications(name, callback) abort
  let g:Notified = a:callback
endfunction
function! lsp#get_server_status(name) abort
  return get(g:, 'status', 'running')
endfunction
function! lsp#stop_server(name) abort
  call add(g:calls, 'stop ' .. a:name)
endfunction
function! lsp#send_request(name, request) abort
  call add(g:calls, a:request)
endfunction
function! Event(turn, kind, fields) abort
  let l:ids = {'chatId': lsp_assist#chat#current().id, 'turnId': a:turn, 'seq': 0}
  for [l:server, l:kind] in [['another', 'error'], ['lsp-assist', a:kind]]
    let l:params = extend(extend({'kind': l:kind}, l:ids), a:fields)
    call g:Notified(l:server, {'response': {'method': 'assist/event', 'params': l:params}})
  endfor
endfunction
"""
STAND_IN_UTILS = r"""
function! lsp#utils#get_buffer_uri(bufnr) abort
  return 'file:///as-vim-lsp-says/' .. bufname(a:bufnr)
endfunction
"""


def run(folder: Path, cwd: Path, script: str, *, extra_rc: str) -> dict[str, Any]:
    return run_script(script, folder, cwd, SCRIPTED, extra_rc=extra_rc)


def test_requests_and_events_go_through_vim_lsp(tmp_path: Path, workspace: Path) -> None:
    (tmp_path / "autoload" / "lsp").mkdir(parents=True)
    (tmp_path / "autoload" / "lsp.vim").write_text(STAND_IN)
    (tmp_path / "autoload" / "lsp" / "utils.vim").write_text(STAND_IN_UTILS)
    report = run(
        tmp_path,
        workspace,
        """
edit a\\ b.py
1,2Q why
call Wait({-> !empty(g:calls)})
let g:turn = lsp_assist#chat#current().turns[0]
let g:request = g:calls[0]
call Event(g:turn.id, 'delta', {'text': 'so'})
let g:report.running = [g:turn.status, lsp_assist#chat#reply(g:turn)]
let g:usage = {'promptTokens': 1, 'cachedTokens': 0, 'tokensPerSecond': 0, 'model': 'm'}
let g:result = {'status': 'done', 'text': 'so', 'usage': g:usage}
call g:request.on_notification({'response': {'result': g:result}})
let g:report.ended = [g:turn.status, lsp_assist#chat#reply(g:turn)]
let g:report.server = [g:server.name, g:server.blocklist, g:server.cmd({})]
let g:report.capabilities = g:server.capabilities
let g:report.root = g:server.root_uri({})
let g:report.selection = g:request.params.context.selection
let g:report.bufnr = g:request.bufnr
Q again
let g:status = 'exited'
doautocmd User lsp_server_exit
let g:report.lost = lsp_assist#chat#current().turns[-1].status
wincmd w
Q from the chat
call Wait({-> len(g:calls) == 3})
let g:report.from_chat = g:calls[2].bufnr
""",
        extra_rc=f"set rtp^={tmp_path}\nlet g:lsp_loaded = 1",
    )

    assert report["running"] == ["running", "so"]
    assert report["ended"] == ["done", "so"]
    assert report["server"] == ["lsp-assist", ["lspassist"], SCRIPTED]
    assert report["capabilities"]["general"] == {"positionEncodings": ["utf-32", "utf-16"]}
    assert report["capabilities"]["experimental"] == {"lspAssist": {"version": 1}}
    assert report["root"] == workspace.as_uri()
    assert report["selection"]["uri"] == "file:///as-vim-lsp-says/a b.py"
    assert report["lost"] == "error"
    assert report["bufnr"] == report["from_chat"]


@pytest.mark.skipif("VIM_LSP_DIR" not in os.environ, reason="$VIM_LSP_DIR names no vim-lsp")
@pytest.mark.parametrize("client", ["its own", "native"])
def test_the_whole_story_with_the_real_one(tmp_path: Path, workspace: Path, client: str) -> None:
    native = f"let g:lsp_use_native_client = {int(client == 'native')}"
    report = run(
        tmp_path,
        workspace,
        """
call lsp#enable()
edit a\\ b.py
call setline(3, 'wide = "🙂é漢" + two')
execute "normal! 3Gf🙂vf漢\\<Esc>"
function! Ask(text) abort
  execute a:text
  let l:turn = lsp_assist#chat#current().turns[-1]
  call Wait({-> l:turn.status !=# 'running'})
  return [l:turn.status, lsp_assist#chat#reply(l:turn)]
endfunction
let g:report.selected = Ask("'<,'>Q /explain why")
let g:report.counted = Ask('Q count 500')
Q hold
let g:held = lsp_assist#chat#current()
call Wait({-> lsp_assist#chat#reply(g:held.turns[-1]) =~# 'held'})
QX
call Wait({-> g:held.turns[-1].status !=# 'running'})
let g:report.cancelled = [g:held.turns[-1].status, lsp_assist#chat#reply(g:held.turns[-1])]
wincmd w
let g:report.from_chat = Ask('Q count 2')
let g:report.transport = lsp_assist#server#transport()
""",
        extra_rc=f"set rtp^={os.environ.get('VIM_LSP_DIR')}\n{native}\nruntime plugin/lsp.vim",
    )

    assert report["transport"] == "vimlsp"
    assert report["selected"] == ["done", "explain|why|a b.py:2-2|🙂é漢"]
    assert report["counted"] == ["done", "".join(f"{n} " for n in range(500))]
    assert report["cancelled"] == ["cancelled", "held "]
    assert report["from_chat"] == ["done", "0 1 "]
