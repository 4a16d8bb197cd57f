" A chat as a buffer: Markdown to which is only ever added, so that line numbers hold.
" Knows windows and cursors, which it leaves alone; nothing of the server.
"
" What the chat shows at a line is in buffer variables: lsp_assist_folds (level by line),
" lsp_assist_turns ([line, turn id] in order), lsp_assist_sources (source by line).

let s:SCHEME = 'lspassist://'
let s:BAR = '▏ '
let s:PAUSE_MS = 16

let s:numbers = {}  " chat id -> buffer number
let s:views = {}    " buffer number -> {bufnr, tail, n_lines, n_flushed, timer, shown_at}

" Shows the chat in this tab page. The cursor stays where it is unless the chat is to be entered.
function! lsp_assist#window#show(chat, is_entered) abort
  if !empty(getcmdwintype())
    return
  endif
  let l:bufnr = s:buffer(a:chat)
  let l:here = win_getid()
  let l:window = bufwinid(l:bufnr)
  if l:window == -1
    let l:window = s:any_chat()
    if l:window == -1
      let l:view = winsaveview()
      let l:split = &columns >= 140 ? 'botright vertical 80 split' : 'botright split'
      execute 'silent keepalt' get(g:, 'lsp_assist_split', l:split)
      let l:window = win_getid()
    else
      call win_gotoid(l:window)
    endif
    execute 'silent keepalt buffer' l:bufnr
    silent keepjumps normal! G
    call win_gotoid(l:here)
    if exists('l:view')
      call winrestview(l:view)
    endif
  endif
  if a:is_entered
    call win_gotoid(l:window)
  endif
endfunction

" The chat in this window, else in this tab page; empty if there is none.
function! lsp_assist#window#chat_here() abort
  let l:window = &filetype ==# 'lspassist' ? win_getid() : s:any_chat()
  return l:window == -1 ? '' : getbufvar(winbufnr(l:window), 'lsp_assist_chat', '')
endfunction

" The turn at the cursor, if this window shows the chat; else {}.
function! lsp_assist#window#turn_here(chat) abort
  if get(b:, 'lsp_assist_chat', '') !=# a:chat.id
    return {}
  endif
  let l:before = filter(copy(b:lsp_assist_turns), {_, mark -> mark[0] <= line('.')})
  let l:id = empty(l:before) ? '' : l:before[-1][1]
  return get(filter(copy(a:chat.turns), {_, turn -> turn.id ==# l:id}), 0, {})
endfunction

" The source at the cursor, else {}.
function! lsp_assist#window#source_here() abort
  return get(get(b:, 'lsp_assist_sources', {}), line('.'), {})
endfunction

" BufReadCmd: the buffer's text is the chat, also after :edit.
function! lsp_assist#window#read(name) abort
  let l:chat = lsp_assist#chat#get(a:name[len(s:SCHEME) :])
  call s:prepare(bufnr('%'), a:name[len(s:SCHEME) :])
  if empty(l:chat)
    call lsp_assist#chats#load(a:name[len(s:SCHEME) :])
  else
    call lsp_assist#window#render(l:chat)
  endif
endfunction

" BufWinEnter: options of a window that shows a chat.
function! lsp_assist#window#dress() abort
  setlocal foldmethod=expr foldexpr=get(b:lsp_assist_folds,v:lnum,0) foldtext=lsp_assist#window#foldtext()
  setlocal foldlevel=0 foldenable wrap linebreak nolist nonumber norelativenumber nospell
  setlocal signcolumn=no colorcolumn= conceallevel=0
  let l:chat = lsp_assist#chat#get(get(b:, 'lsp_assist_chat', ''))
  if !empty(l:chat)
    call lsp_assist#window#status(l:chat)
  endif
endfunction

" Writes the whole chat anew.
function! lsp_assist#window#render(chat) abort
  let l:bufnr = s:number(a:chat.id)
  if l:bufnr == -1
    return
  endif
  let l:followers = s:followers(l:bufnr)
  call s:prepare(l:bufnr, a:chat.id)
  let l:lines = []
  for l:turn in a:chat.turns
    call extend(l:lines, s:head(l:bufnr, l:turn, len(l:lines) + 1))
    let l:turn.n_shown = len(l:turn.parts)
    let l:reply = split(lsp_assist#chat#reply(l:turn), "\n", 1)
    call extend(l:lines, l:reply, len(l:lines) - 1)
    call remove(l:lines, -1)
    if l:turn.status !=# 'running'
      call extend(l:lines, s:tail(l:bufnr, l:turn, len(l:lines) + 1))
    endif
  endfor
  call setbufvar(l:bufnr, '&modifiable', 1)
  silent call deletebufline(l:bufnr, 1, '$')
  call setbufline(l:bufnr, 1, empty(l:lines) ? [''] : l:lines)
  call setbufvar(l:bufnr, '&modifiable', 0)
  let s:views[l:bufnr].tail = get(l:lines, -1, '')
  let s:views[l:bufnr].n_lines = max([1, len(l:lines)])
  call s:follow(l:followers)
  call lsp_assist#window#status(a:chat)
endfunction

" A turn was asked.
function! lsp_assist#window#begun(chat, turn) abort
  let l:bufnr = s:number(a:chat.id)
  if l:bufnr == -1
    call s:buffer(a:chat)  " written as it is loaded
  else
    let l:view = s:views[l:bufnr]
    let l:is_blank = l:view.n_lines == 1 && empty(l:view.tail)
    let l:kept = l:is_blank ? [] : [l:view.tail]
    call s:put(l:view, l:kept + s:head(l:bufnr, a:turn, l:is_blank ? 1 : l:view.n_lines + 1))
  endif
  call lsp_assist#window#status(a:chat)
endfunction

" There is more of the reply. It is shown at once, or a moment later if some was just shown: a flood
" must not keep Vim from its user.
function! lsp_assist#window#said(chat, turn) abort
  let l:view = s:view(a:chat)
  if empty(l:view)
    return
  elseif a:turn.n_shown == 0
    let a:turn.step = 'answering'
    call lsp_assist#window#status(a:chat)
  endif
  if reltimefloat(reltime(l:view.shown_at)) * 1000 >= s:PAUSE_MS
    call s:flush(l:view, a:turn)
  else
    let l:view.n_flushed = a:turn.n_shown
    let a:turn.n_shown = -1
    let l:view.timer = timer_start(s:PAUSE_MS, {-> s:flush(l:view, a:turn)})
  endif
endfunction

" A turn has ended, in whatever way.
function! lsp_assist#window#ended(chat, turn) abort
  let l:view = s:view(a:chat)
  if !empty(l:view)
    call s:flush(l:view, a:turn)
    call s:put(l:view, [l:view.tail] + s:tail(l:view.bufnr, a:turn, l:view.n_lines + 1))
  endif
  call lsp_assist#window#status(a:chat)
endfunction

" What the status line says: model, warm or cold, what runs, what it took.
function! lsp_assist#window#status(chat) abort
  let l:bufnr = s:number(a:chat.id)
  if l:bufnr == -1
    return
  endif
  let l:turn = get(a:chat.turns, -1, {})
  let l:usage = get(l:turn, 'usage', {})
  let l:parts = [empty(a:chat.model) ? get(l:usage, 'model', 'lsp-assist') : a:chat.model]
  if get(l:turn, 'status', '') ==# 'running'
    let l:waits_for = lsp_assist#server#state() ==# 'ready' ? 'asking' : 'starting the server'
    call add(l:parts, empty(l:turn.step) ? l:waits_for : l:turn.step)
    let l:n_others = lsp_assist#chat#n_running() - 1
    call extend(l:parts, l:n_others > 0 ? [l:n_others .. ' more in the queue'] : [])
    call extend(l:parts, type(a:chat.next) == v:t_func ? ['1 question waits'] : [])
  elseif !empty(l:usage)
    let l:n_cold = l:usage.promptTokens - l:usage.cachedTokens
    let l:read = printf('%d tokens, %d cold', l:usage.promptTokens, l:n_cold)
    call extend(l:parts, l:usage.promptTokens > 0 ? [l:read] : [])
    call extend(l:parts, l:usage.tokensPerSecond > 0 ? [printf('%.1f tokens/s', l:usage.tokensPerSecond)] : [])
    call extend(l:parts, has_key(l:usage, 'costUsd') ? [printf('$%.4f', l:usage.costUsd)] : [])
  endif
  call extend(l:parts, empty(a:chat.warm) ? [] : [a:chat.warm])
  let l:line = substitute(join(l:parts, ' · '), '%', '%%', 'g')
  let l:title = empty(a:chat.title) ? 'New chat' : substitute(a:chat.title, '%', '%%', 'g')
  call setbufvar(l:bufnr, 'lsp_assist_status', join(l:parts, ' · '))
  if get(g:, 'lsp_assist_statusline', 1)
    for l:window in win_findbuf(l:bufnr)
      call setwinvar(l:window, '&statusline', ' ' .. l:line .. ' %<%= ' .. l:title .. ' ')
    endfor
  endif
endfunction

" Closes this window, or shows another buffer in it if it is the only one.
function! lsp_assist#window#close() abort
  if winnr('$') > 1 || tabpagenr('$') > 1
    close
  else
    execute bufnr('#') > 0 && bufnr('#') != bufnr('%') ? 'buffer #' : 'enew'
  endif
endfunction

" Opens the place that is named at the cursor: a source, or `path:line` in a reply.
function! lsp_assist#window#go_to_source() abort
  let l:source = lsp_assist#window#source_here()
  if !empty(l:source)
    call lsp_assist#place#open(lsp_assist#place#path_of(l:source.uri), l:source.startLine + 1)
    return
  endif
  let l:match = matchlist(expand('<cWORD>'), '\([[:alnum:]_./~-]\+\)\%(:\(\d\+\)\)\?')
  for l:folder in lsp_assist#server#folders() + [getcwd()]
    let l:path = get(l:match, 1, '') =~# '^[/~]' ? expand(l:match[1]) : l:folder .. '/' .. get(l:match, 1, '')
    if filereadable(l:path)
      call lsp_assist#place#open(l:path, str2nr(get(l:match, 2, '')))
      return
    endif
  endfor
  call lsp_assist#notice#info('there is no source at the cursor')
endfunction

" Moves to the n-th next turn, to an earlier one if n is negative.
function! lsp_assist#window#go_to_turn(n, ...) abort
  if a:0
    normal! gv
  endif
  let l:lines = map(copy(get(b:, 'lsp_assist_turns', [])), {_, mark -> mark[0]})
  let l:ahead = a:n > 0 ? filter(l:lines, {_, lnum -> lnum > line('.')})
        \ : reverse(filter(l:lines, {_, lnum -> lnum < line('.')}))
  if !empty(l:ahead)
    normal! m'
    call cursor(l:ahead[min([abs(a:n), len(l:ahead)]) - 1], 1)
  elseif a:n > 0
    call cursor(line('$'), 1)
  endif
endfunction

" 'foldtext' of a chat.
function! lsp_assist#window#foldtext() abort
  let l:first = substitute(getline(v:foldstart), '^' .. s:BAR, '', '')
  return '▸ ' .. l:first .. repeat(' ', winwidth(0))
endfunction

" What a buffer is while it shows a chat.
function! s:prepare(bufnr, chat_id) abort
  let s:numbers[a:chat_id] = a:bufnr
  call timer_stop(get(get(s:views, a:bufnr, {}), 'timer', -1))
  let s:views[a:bufnr] = {'bufnr': a:bufnr, 'tail': '', 'n_lines': 1, 'n_flushed': 0, 'timer': -1,
        \ 'shown_at': reltime()}
  call setbufvar(a:bufnr, 'lsp_assist_chat', a:chat_id)
  call setbufvar(a:bufnr, 'lsp_assist_folds', {})
  call setbufvar(a:bufnr, 'lsp_assist_turns', [])
  call setbufvar(a:bufnr, 'lsp_assist_sources', {})
  for [l:option, l:value] in items({'buftype': 'nofile', 'bufhidden': 'hide', 'swapfile': 0,
        \ 'undolevels': -1, 'modifiable': 0})
    call setbufvar(a:bufnr, '&' .. l:option, l:value)
  endfor
  if getbufvar(a:bufnr, '&filetype') !=# 'lspassist'
    call setbufvar(a:bufnr, '&filetype', 'lspassist')
  endif
endfunction

" The chat's buffer, made and written if need be.
function! s:buffer(chat) abort
  let l:bufnr = bufadd(s:SCHEME .. a:chat.id)
  let s:numbers[a:chat.id] = l:bufnr
  if !bufloaded(l:bufnr)
    call bufload(l:bufnr)
  endif
  return l:bufnr
endfunction

function! s:view(chat) abort
  let l:bufnr = s:number(a:chat.id)
  return l:bufnr == -1 ? {} : get(s:views, l:bufnr, {})
endfunction

" The buffer's number while it is loaded, else -1.
function! s:number(chat_id) abort
  let l:bufnr = get(s:numbers, a:chat_id, -1)
  return bufloaded(l:bufnr) ? l:bufnr : -1
endfunction

function! s:any_chat() abort
  for l:n in range(1, winnr('$'))
    if !empty(getbufvar(winbufnr(l:n), 'lsp_assist_chat', ''))
      return win_getid(l:n)
    endif
  endfor
  return -1
endfunction

" Shows what there is of the reply.
function! s:flush(view, turn) abort
  call timer_stop(a:view.timer)
  let l:n_shown = a:turn.n_shown < 0 ? a:view.n_flushed : a:turn.n_shown
  let a:turn.n_shown = len(a:turn.parts)
  if l:n_shown < a:turn.n_shown && bufloaded(a:view.bufnr)
    let l:lines = split(join(a:turn.parts[l:n_shown :], ''), "\n", 1)
    let l:lines[0] = a:view.tail .. l:lines[0]
    call s:put(a:view, l:lines)
    let a:view.shown_at = reltime()
  endif
endfunction

" Replaces the last line by these.
function! s:put(view, lines) abort
  let l:followers = s:followers(a:view.bufnr)
  call setbufvar(a:view.bufnr, '&modifiable', 1)
  call setbufline(a:view.bufnr, a:view.n_lines, a:lines[0])
  if len(a:lines) > 1
    call appendbufline(a:view.bufnr, a:view.n_lines, a:lines[1:])
  endif
  call setbufvar(a:view.bufnr, '&modifiable', 0)
  let a:view.tail = a:lines[-1]
  let a:view.n_lines += len(a:lines) - 1
  call s:follow(l:followers)
endfunction

" What stands above a reply, from line `lnum` on: the question and, folded, what was shown with it.
" The last line is the first of the reply.
function! s:head(bufnr, turn, lnum) abort
  call add(getbufvar(a:bufnr, 'lsp_assist_turns'), [a:lnum, a:turn.id])
  let l:lines = ['# You' .. (empty(a:turn.mode) ? '' : ' /' .. a:turn.mode), '']
  if !empty(a:turn.context.labels)
    let l:shown = [s:BAR .. join(a:turn.context.labels, ', ')]
          \ + map(copy(a:turn.context.excerpt), {_, line -> s:BAR .. '  ' .. line})
    call s:fold(a:bufnr, a:lnum + len(l:lines), len(l:shown))
    call extend(l:lines, l:shown + [''])
  endif
  call extend(l:lines, empty(a:turn.text) ? [] : split(a:turn.text, "\n", 1) + [''])
  return l:lines + ['# Assistant', '', '']
endfunction

" What stands below a reply that has ended: how, if not well, and folded what the model read.
function! s:tail(bufnr, turn, lnum) abort
  let l:lines = ['']
  if a:turn.status ==# 'cancelled'
    let l:lines += ['*Cancelled.*', '']
  elseif a:turn.status ==# 'error'
    let l:lines += ['*' .. substitute(a:turn.error, '\n', ' ', 'g') .. '*', '']
  endif
  for l:edit in a:turn.edits
    let l:paths = map(copy(l:edit.files), {_, file -> file.path})
    if !empty(l:paths)
      let l:lines += ['*Proposes changes of ' .. join(l:paths, ', ') .. ': ga shows them.*', '']
    endif
  endfor
  if !empty(a:turn.sources)
    let l:n = len(a:turn.sources)
    call s:fold(a:bufnr, a:lnum + len(l:lines), l:n + 1)
    call add(l:lines, s:BAR .. (l:n == 1 ? '1 source' : l:n .. ' sources'))
    for l:source in a:turn.sources
      let l:at = getbufvar(a:bufnr, 'lsp_assist_sources')
      let l:at[a:lnum + len(l:lines)] = l:source
      let l:range = (l:source.startLine + 1) .. '-' .. (l:source.endLine + 1)
      call add(l:lines, s:BAR .. '  ' .. l:source.path .. ':' .. l:range .. '  ' .. get(l:source, 'symbol', ''))
    endfor
    call add(l:lines, '')
  endif
  return l:lines
endfunction

" Before the lines are there: Vim asks for the fold level of a line when it is added.
function! s:fold(bufnr, lnum, n_lines) abort
  let l:levels = getbufvar(a:bufnr, 'lsp_assist_folds')
  let l:levels[a:lnum] = '>1'
  for l:next in range(a:lnum + 1, a:lnum + a:n_lines - 1)
    let l:levels[l:next] = 1
  endfor
endfunction

" Windows in which the cursor is on the last line: they go on showing it. Not the one in which the
" user selects something or is in the middle of a command.
function! s:followers(bufnr) abort
  let l:last = get(s:views[a:bufnr], 'n_lines', 1)
  let l:here = mode(1) ==# 'n' ? -1 : win_getid()
  return filter(win_findbuf(a:bufnr), {_, window -> line('.', window) >= l:last && window != l:here})
endfunction

function! s:follow(windows) abort
  for l:window in a:windows
    call win_execute(l:window, 'noautocmd keepjumps normal! G')
  endfor
endfunction
