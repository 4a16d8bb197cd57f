"""One story through a real server: chats that outlive it, forks, context, warming and edits.

The model's words are scripted; the chats, the index, the prompt and the edits are real.
"""

import json
from pathlib import Path
from typing import Any

from tests.editors.vim import needs_vim, run_script
from tests.server.editor import SCRIPTED

pytestmark = needs_vim

SCRIPT = r"""
function! Ask(command) abort
  execute a:command
  let l:turn = lsp_assist#chat#current().turns[-1]
  call Wait({-> l:turn.status !=# 'running'})
  return lsp_assist#chat#reply(l:turn)
endfunction
function! Request(method, params) abort
  let g:answer = {}
  call lsp_assist#server#request(a:method, a:params, {result, error -> Keep(result, error)})
  call Wait({-> !empty(g:answer)})
  return g:answer.result
endfunction
function! Keep(result, error) abort
  let g:answer = {'result': a:result, 'error': a:error}
endfunction
function! Texts() abort
  return map(copy(lsp_assist#chat#current().turns), 'v:val.text')
endfunction
edit a\ b.py
"""

REPLY = "So:\n\n`a b.py`\n<<<<<<< SEARCH\nreturn 1\n=======\nreturn 2\n>>>>>>> REPLACE\n"
CONTEXT = "{'spec': {}, 'labels': [], 'excerpt': [], 'selection': {}}"


def story(folder: Path, workspace: Path, script: str) -> dict[str, Any]:
    return run_script(SCRIPT + script, folder, workspace, SCRIPTED)


def test_chats_are_forked_and_go_on_after_vim_has_ended(tmp_path: Path, workspace: Path) -> None:
    first = story(
        tmp_path,
        workspace,
        """
call Ask('Q reply two')
call Ask('Q reply three')
let g:report.original = lsp_assist#chat#current().id
wincmd w
normal gg
QF reply four
call Wait({-> lsp_assist#chat#current().id !=# g:report.original})
call Wait({-> lsp_assist#chat#current().turns[-1].status ==# 'done'})
let g:report.forked = Texts()
let g:report.modes = Request('assist/modes', {}).modes
""",
    )
    second = story(
        tmp_path,
        workspace,
        """
QC reply two
call Wait({-> len(lsp_assist#chats#titles()) > 0})
let g:told = Request('assist/chats', {}).chats
let g:report.n_chats = len(g:told)
let g:id = filter(copy(g:told), 'v:val.chatId ==# "ORIGINAL"')[0].chatId
execute 'edit lspassist://' .. g:id
call Wait({-> !empty(lsp_assist#chat#get(g:id))})
let g:report.reopened = Texts()
let g:report.lines = getline(1, '$')
let g:report.foldmethod = &foldmethod
let g:report.goes_on = Ask('Q reply one')
let g:report.texts = Texts()
""".replace("ORIGINAL", first["original"]),
    )

    assert first["forked"] == ["reply two", "reply four"]
    assert "explain" in [mode["name"] for mode in first["modes"]]
    assert second["n_chats"] == 2
    assert second["reopened"] == ["reply two", "reply three"]
    assert "three" in second["lines"]
    assert second["foldmethod"] == "expr"
    assert second["goes_on"] == "one"
    assert second["texts"] == ["reply two", "reply three", "reply one"]


def test_a_question_is_shown_and_warmed_before_it_is_asked(tmp_path: Path, workspace: Path) -> None:
    report = story(
        tmp_path,
        workspace,
        """
1,2QI why
call Wait({-> join(getbufline('lsp-assist:context', 1, '$')) =~# 'question'})
let g:report.page = getbufline('lsp-assist:context', 1, '$')
1,2Q -wt
call Wait({-> execute('messages') =~# 'warm'})
""",
    )

    assert any(line.startswith("extractive · ") for line in report["page"])
    assert any("selection" in line and "a b.py:1-2" in line for line in report["page"])
    assert "lsp-assist: nothing is warm: " in report["messages"]


def test_edits_of_a_reply_are_made_in_the_buffer(tmp_path: Path, workspace: Path) -> None:
    report = story(
        tmp_path,
        workspace,
        f"""
let g:text = json_decode({literal(f"reply {REPLY}")})
let g:turn = lsp_assist#chat#turn(lsp_assist#warm#turn_id(), g:text, '', {CONTEXT})
"""
        """
call lsp_assist#ask#turn(lsp_assist#chat#current(), g:turn, 0)
call Wait({-> g:turn.status !=# 'running'})
let g:report.proposed = len(g:turn.edits)
let g:report.chat = getbufline('lspassist:', 1, '$')
call lsp_assist#edits#propose()
call Wait({-> !empty(getbufvar('lsp-assist:edits', 'lsp_assist_edit'))})
let g:report.diff = getbufline('lsp-assist:edits', 1, '$')
let g:edit = getbufvar('lsp-assist:edits', 'lsp_assist_edit')
let g:report.applied = Request('assist/applyEdit', extend({'isReviewed': v:true}, g:edit))
let g:report.refusal = g:answer.error
let g:report.buffer = getbufline('a b.py', 1, 2)
""",
    )

    assert "+    return 2" in report["diff"]
    assert report["applied"] == {"applied": True}, report
    assert report["buffer"] == ["def f():", "    return 2"]
    assert report["proposed"] == 1
    assert "*Proposes changes of a b.py: ga shows them.*" in report["chat"]
    assert (workspace / "a b.py").read_text().startswith("def f():\n    return 1\n")


def literal(text: str) -> str:
    """JSON of the text as a literal of Vim script."""
    return "'" + json.dumps(text).replace("'", "''") + "'"
