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
  call lsp_assist#server#request('assist/status', {},
        \ {result, error -> lsp_assist#page#show('doctor', s:client() + s:server(result, error) + s:said())})
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
        \ s:check(1, printf('lsp-assist %s, protocol %d, Python %s', a:status.version, a:status.protocol, a:status.python)),
        \ s:check(1, 'model: ' .. a:status.model.name .. (empty(a:status.model.path) ? '' : ' (' .. a:status.model.path .. ')')),
        \ ]
  for l:index in a:status.indexes
    let l:text = printf('index of %s: %s, %d files, %d symbols',
          \ l:index.root, l:index.state, l:index.nFiles, l:index.nSymbols)
    call add(l:lines, s:check(l:index.state ==# 'ready', l:text))
  endfor
  for l:warning in a:status.warnings
    call add(l:lines, s:check(0, substitute(l:warning, "\n", ' ', 'g')))
  endfor
  for l:method in lsp_assist#server#lacking()
    call add(l:lines, s:check(0, 'this server has no ' .. l:method .. ' yet'))
  endfor
  return l:lines
endfunction

function! s:said() abort
  let l:lines = map(s:log[-s:MAX_LINES :], {_, line -> '  ' .. substitute(line, '[[:cntrl:]]', ' ', 'g')})
  return empty(l:lines) ? [] : ['', 'Log'] + l:lines
endfunction

function! s:check(is_well, text) abort
  return (a:is_well ? '  ok  ' : '  !!  ') .. a:text
endfunction

function! s:patch() abort
  let l:version = execute('version')
  return get(matchlist(l:version, '1-\(\d\+\)'), 1, '?')
endfunction
