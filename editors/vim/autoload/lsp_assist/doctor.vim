" :QDoctor: what is there and what is wrong with it. Also keeps what the server and we log.

let s:log = []
let s:MAX_LINES = 200

" Keeps a line for the doctor.
function! lsp_assist#doctor#log(line) abort
  call add(s:log, a:line)
  if len(s:log) > 2 * s:MAX_LINES
    let s:log = s:log[-s:MAX_LINES :]
  endif
endfunction

function! lsp_assist#doctor#command() abort
  call lsp_assist#page#show('doctor', s:client() + ['', 'Server: waiting for its answer'] + s:said())
  call lsp_assist#server#request('assist/status', {}, {result, error -> lsp_assist#page#show('doctor', s:client() + s:server(result, error) + s:said())})
endfunction

function! s:client() abort
  let l:command = lsp_assist#server#command()
  let l:transport = lsp_assist#server#transport()
  return [
        \ 'lsp-assist: what is there (q closes this page)',
        \ '',
        \ 'Vim',
        \ s:check(1, 'version ' .. v:version / 100 .. '.' .. v:version % 100 .. ', patch ' .. s:patch()),
        \ s:check(has('channel') && has('job'), '+channel and +job'),
        \ s:check(has('patch-8.2.4780'), 'patch 8.2.4780: channels speak LSP'),
        \ s:check(has('timers'), '+timers: warming while you type'),
        \ s:check(has('popupwin'), '+popupwin: menus'),
        \ s:check(&encoding ==# 'utf-8', "'encoding' is " .. &encoding),
        \ s:check(!empty(l:transport), 'transport: ' .. (empty(l:transport) ? 'none; install vim-lsp or a newer Vim' : l:transport)),
        \ s:check(!empty(l:command), 'server command: ' .. (empty(l:command)
        \   ? 'not found; run `pipx install .` in a clone of lsp-assist, or set g:lsp_assist_cmd' : join(l:command))),
        \ s:check(1, 'workspace: ' .. (empty(lsp_assist#server#folders()) ? 'none' : join(lsp_assist#server#folders(), ', '))),
        \ ]
endfunction

function! s:server(status, error) abort
  if !empty(a:error)
    return ['', 'Server', s:check(0, a:error.message)]
  endif
  let l:lines = ['', 'Server',
        \ s:check(1, 'lsp-assist ' .. a:status.version .. ', protocol ' .. float2nr(a:status.protocol + 0.0) .. ', Python ' .. a:status.python),
        \ s:check(1, 'model: ' .. a:status.model.name .. (empty(a:status.model.path) ? '' : ' (' .. a:status.model.path .. ')')),
        \ ]
  for l:index in a:status.indexes
    call add(l:lines, s:check(l:index.state ==# 'ready', printf('index of %s: %s, %d files, %d symbols', l:index.root, l:index.state, l:index.nFiles, l:index.nSymbols)))
  endfor
  for l:warning in a:status.warnings
    call add(l:lines, s:check(0, substitute(l:warning, "\n", ' ', 'g')))
  endfor
  for l:method in ['assist/warm', 'assist/context', 'assist/fork', 'assist/chats', 'assist/edits', 'assist/models', 'assist/modes', 'assist/repair']
    if lsp_assist#server#lacks(l:method)
      call add(l:lines, s:check(0, 'this server has no ' .. l:method .. ' yet'))
    endif
  endfor
  return l:lines
endfunction

function! s:said() abort
  return empty(s:log) ? [] : ['', 'Log'] + map(s:log[-s:MAX_LINES :], {_, line -> '  ' .. substitute(line, '[[:cntrl:]]', ' ', 'g')})
endfunction

function! s:check(is_well, text) abort
  return (a:is_well ? '  ok  ' : '  !!  ') .. a:text
endfunction

function! s:patch() abort
  let l:version = execute('version')
  return get(matchlist(l:version, '1-\(\d\+\)'), 1, '?')
endfunction
