"""Vim with a real server in a process of its own; only the model's words are scripted."""

import json
import os
import random
import time
from pathlib import Path
from typing import Any

import pytest

from tests.editors.vim import needs_vim, run_script
from tests.server.editor import SCRIPTED

pytestmark = needs_vim

ASK = """\
function! Ask(text, ...) abort
  execute (a:0 ? a:1 : '') .. 'Q ' .. a:text
  let l:turn = lsp_assist#chat#current().turns[-1]
  call Wait({-> l:turn.status !=# 'running'})
  return l:turn
endfunction
function! Status(result, _error) abort
  let g:is_indexed = get(get(get(a:result, 'indexes', []), 0, {}), 'state', '') ==# 'ready'
endfunction
function! Indexed() abort
  call lsp_assist#server#request('assist/status', {}, function('Status'))
  return get(g:, 'is_indexed', 0)
endfunction
function! Chat() abort
  return getbufline(bufnr('lspassist://' .. lsp_assist#chat#current().id), 1, '$')
endfunction
"""


@pytest.fixture
def vim(tmp_path: Path, workspace: Path) -> Any:
    def run(script: str, **options: Any) -> dict[str, Any]:
        command = options.pop("command", SCRIPTED)
        return run_script(ASK + script, tmp_path, workspace, command, **options)

    return run


def test_a_question_is_answered_in_a_chat(vim: Any) -> None:
    """The reply and the places that it was given to read, which are folded."""
    report = vim("""
edit a\\ b.py
let g:report.here = win_getid()
let g:report.reply = lsp_assist#chat#reply(Ask('count 4'))
let g:report.chat = Chat()
let g:report.still_here = win_getid()
wincmd w
let g:report.folds = map(range(1, line('$')), 'foldclosed(v:val)')
let g:report.foldtext = foldtextresult('$')
call search('a b.py')
normal gf
let g:report.at = [expand('%'), line('.')]
""")

    assert report["reply"] == "0 1 2 3 "
    chat = ["# You", "", "count 4", "", "# Assistant", "", "0 1 2 3 ", ""]
    assert report["chat"] == [*chat, "▏ 1 source", "▏   a b.py:1-2  f", ""]
    assert report["folds"] == [-1] * 8 + [9, 9, -1]
    assert report["still_here"] == report["here"]
    assert report["at"] == ["a b.py", 1]


def test_what_is_selected_is_what_is_asked_about(vim: Any) -> None:
    """Whole lines, or characters exactly, whatever stands before them."""
    report = vim("""
edit a\\ b.py
call setline(3, 'wide = "🙂é漢" + two')
let g:report.lines = lsp_assist#chat#reply(Ask('/explain why', '1,2'))
execute "normal! 3Gf🙂vf漢\\<Esc>"
let g:report.characters = lsp_assist#chat#reply(Ask('-n what', "'<,'>"))
execute "normal! 3Gftv$\\<Esc>"
let g:report.to_the_end = lsp_assist#chat#reply(Ask('-ns what'))
let g:report.label = Chat()[2]
1Q -n -sx what
""")

    assert report["lines"] == "explain|why|a b.py:0-1|def f():\n    return 1\n"
    assert report["characters"] == "|what|a b.py:2-2|🙂é漢"
    assert report["to_the_end"] == "|what|a b.py:2-2|two"
    assert "there is no flag -x" in report["messages"]


EDITS = [
    'call setline({n}, "line {n}")',
    'call append({n}, ["new", "🙂 漢", ""])',
    "{n}delete",
    "{n},$delete",
    "{n}join",
    "{n}move 0",
    "{n}copy $",
    "silent! undo",
    "silent! redo",
    "%s/e/é/ge",
    "silent! global/new/delete",
    'execute "normal! {n}Goinserted\\<CR>twice"',
    'call append({n}, "a\\rb")',
    'call append({n}, "half\\r")',
    'call setline(1, "nul\\nin it")',
    "silent %!sort",
    "edit! a\\ b.py",
    "set fileformat=dos",
    "set fileformat=unix",
    "set noendofline nofixendofline",
    "set endofline",
    "write",
    "call listener_flush()",
]


@pytest.mark.parametrize("seed", [1, 2])
def test_the_server_has_the_text_of_the_buffer(vim: Any, seed: int) -> None:
    """After any edits, told line by line, both have the same text to the byte.

    But for a carriage return or a NUL inside of a line, which LSP and Vim read in different ways.
    """
    choose = random.Random(seed)
    steps = []
    for _ in range(20):
        edits = [
            f"call Edit({quoted(choose.choice(EDITS))}, {choose.randrange(9)})" for _ in range(6)
        ]
        steps.append("\n".join([*edits, "call Compare()"]))
    report = vim(
        """
let g:report.pairs = []
function! Edit(command, n) abort
  execute substitute(a:command, '{n}', 1 + a:n % line('$'), 'g')
endfunction
function! Compare() abort
  let l:told = json_decode(lsp_assist#chat#reply(Ask('documents')))
  let l:break = &fileformat ==# 'dos' ? "\\r\\n" : "\\n"
  let l:stray = &fileformat ==# 'dos' ? "[\\r\\n]" : "\\r\\\\ze.\\\\|\\n"
  let l:lines = map(getline(1, '$'), {_, line -> substitute(line, l:stray, ' ', 'g')})
  let l:text = join(l:lines, l:break) .. (&endofline || &fixendofline ? l:break : '')
  call add(g:report.pairs, [values(l:told), [l:text]])
endfunction
edit a\\ b.py
call Ask('documents')
"""
        + "\n".join(steps)
    )

    assert len(report["pairs"]) == 20
    for told, there in report["pairs"]:
        assert told == there


def quoted(text: str) -> str:
    """The text as a literal of Vim script."""
    return "'" + text.replace("'", "''") + "'"


def test_closing_and_renaming_a_buffer_is_told(vim: Any) -> None:
    report = vim("""
edit a\\ b.py
split other.py
let g:report.both = keys(json_decode(lsp_assist#chat#reply(Ask('documents'))))
bwipeout other.py
saveas renamed.py
let g:report.renamed = keys(json_decode(lsp_assist#chat#reply(Ask('documents'))))
""")

    names = [{uri.rsplit("/", 1)[1] for uri in report[key]} for key in ("both", "renamed")]
    assert names == [{"a%20b.py", "other.py"}, {"renamed.py"}]


def test_a_reply_is_cancelled(vim: Any) -> None:
    """And a question that was typed meanwhile is asked when the first has ended."""
    report = vim("""
edit a\\ b.py
Q hold
call Wait({-> join(Chat()) =~# 'held'})
Q count 2
let g:waiting = lsp_assist#chat#current()
let g:report.asked = len(g:waiting.turns)
QX
call Wait({-> g:waiting.turns[0].status ==# 'cancelled'})
Q! count 3
call Wait({-> g:waiting.turns[-1].status ==# 'done'})
let g:report.turns = map(copy(g:waiting.turns), '[v:val.status, lsp_assist#chat#reply(v:val)]')
Q hold
call Wait({-> lsp_assist#chat#reply(g:waiting.turns[-1]) =~# 'held'})
Q! count 1
call Wait({-> g:waiting.turns[-1].text ==# 'count 1' && g:waiting.turns[-1].status ==# 'done'})
let g:report.chat = Chat()
""")

    assert report["asked"] == 1
    assert report["turns"] == [["cancelled", "held "], ["done", "0 1 2 "]]
    assert report["chat"].count("*Cancelled.*") == 2


def test_a_failed_question_says_why_in_the_chat(vim: Any) -> None:
    report = vim("""
edit a\\ b.py
call Ask('unavailable')
call Ask('refuse')
let g:report.chat = Chat()
""")

    assert "*The model is asleep; wake it up.*" in report["chat"]
    assert "*The question is refused; ask another one.*" in report["chat"]


def test_a_server_that_is_killed_is_started_again(vim: Any) -> None:
    """What it was answering ends with the reason, and the documents are told anew."""
    report = vim("""
edit a\\ b.py
Q hold
call Wait({-> join(Chat()) =~# 'held'})
call setline(1, 'changed')
call job_stop(job_info()[0], 'kill')
call Wait({-> lsp_assist#chat#current().turns[0].status !=# 'running'})
let g:report.turn = lsp_assist#chat#current().turns[0].error
call Wait({-> lsp_assist#server#state() ==# 'ready'})
let g:report.documents = json_decode(lsp_assist#chat#reply(Ask('documents')))
""")

    assert "the server ended" in report["turn"]
    [text] = report["documents"].values()
    assert text.startswith("changed\n")


def test_a_chat_outlives_reloading_its_buffer_and_other_tab_pages(vim: Any) -> None:
    report = vim("""
edit a\\ b.py
call Ask('count 2')
wincmd w
edit
let g:report.again = Chat()
tabnew other.py
let g:report.tab_before = winnr('$')
call Ask('count 3')
let g:report.windows = map(range(1, winnr('$')), 'bufname(winbufnr(v:val)) =~# "lspassist:"')
let g:report.both = filter(Chat(), 'v:val =~# "^0"')
2wincmd w
normal q
let g:report.after_q = winnr('$')
""")

    assert report["again"][6] == "0 1 "
    assert report["windows"] == [0, 1]
    assert report["both"] == ["0 1 ", "0 1 2 "]
    assert report["after_q"] == report["tab_before"] == 1


def test_writing_and_leaving_in_the_middle_of_a_reply(vim: Any, workspace: Path) -> None:
    """`:wqa` finds nothing to complain about, and the server ends with Vim."""
    report = vim("""
edit a\\ b.py
Q hold
call Wait({-> join(Chat()) =~# 'held'})
call setline(1, 'changed')
let g:report.server = job_info(job_info()[0]).process
call writefile([json_encode(g:report)], '../report.json')
wqall
""")

    assert (workspace / "a b.py").read_text().startswith("changed\n")
    deadline = time.monotonic() + 30
    while is_running(report["server"]):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_places_are_found_into_the_quickfix_list(vim: Any) -> None:
    report = vim("""
edit other.py
let g:report.here = win_getid()
call Wait({-> Indexed()})
QS where is f
call Wait({-> !empty(getqflist())})
let g:report.found = map(getqflist(), '[bufname(v:val.bufnr)[-6:], v:val.lnum, v:val.text]')
let g:report.still_here = win_getid()
QS! where is g
call Wait({-> !empty(getloclist(0))})
""")

    assert ["a b.py", 1, "function f"] in report["found"]
    assert report["still_here"] == report["here"]


def test_a_missing_server_is_told_with_the_way_to_get_it(vim: Any) -> None:
    report = vim("edit other.py\nQ why\nlet g:report.chat = Chat()", command=["/no/such/server"])

    assert "pipx install" in " ".join(report["chat"])


def test_a_server_that_cannot_start_is_told_and_not_tried_for_ever(vim: Any) -> None:
    report = vim(
        """
edit other.py
Q why
call Wait({-> lsp_assist#chat#current().turns[0].status ==# 'error'})
let g:report.reason = lsp_assist#chat#current().turns[0].error
let g:report.state = lsp_assist#server#state()
""",
        command=["python3", "-c", "import sys; sys.exit('broken')"],
    )

    assert "did not start" in report["reason"]
    assert report["state"] == "off"


def test_the_doctor_says_what_is_there(vim: Any) -> None:
    report = vim("""
edit other.py
call Ask('count 1')
QDoctor
call Wait({-> join(getbufline('lsp-assist:doctor', 1, '$')) =~# 'index of'})
let g:report.page = getbufline('lsp-assist:doctor', 1, '$')
""")

    page = "\n".join(report["page"])
    assert "  ok  transport: channel" in page
    assert "  ok  model: " in page
    assert json.dumps("!!") not in page
