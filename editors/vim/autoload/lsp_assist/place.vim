" Where things are: URIs, folders, selected text. Changes no buffer.

let s:MARKERS = ['.git', '.hg', '.svn', '.jj', '.lsp-assist.toml']

" What a command was asked about: {} without a range, else {bufnr, line1, line2, is_visual}.
function! lsp_assist#place#asked(n_range, line1, line2) abort
  if a:n_range == 0
    return {}
  endif
  let l:is_visual = a:n_range == 2 && a:line1 == line("'<") && a:line2 == line("'>")
  return {'bufnr': bufnr('%'), 'line1': a:line1, 'line2': a:line2, 'is_visual': l:is_visual}
endfunction

" What was selected last in this buffer; {} if nothing was.
function! lsp_assist#place#visual() abort
  return line("'<") == 0 ? {} : lsp_assist#place#asked(2, line("'<"), line("'>"))
endfunction

" The range of LSP: exactly what was selected by characters, else whole lines.
function! lsp_assist#place#range(asked) abort
  if !a:asked.is_visual || visualmode() !=# 'v'
    return {'start': s:position(a:asked.line1, ''), 'end': s:position(a:asked.line2 + 1, '')}
  endif
  let [l:first, l:last] = [getline(a:asked.line1), getline(a:asked.line2)]
  let l:n_end = min([col("'>") - 1, len(l:last)])
  let l:tail = &selection ==# 'exclusive' ? '' : matchstr(strpart(l:last, l:n_end), '^.')
  return {
        \ 'start': s:position(a:asked.line1, strpart(l:first, 0, col("'<") - 1)),
        \ 'end': s:position(a:asked.line2, strpart(l:last, 0, l:n_end) .. l:tail),
        \ }
endfunction

" The URI by which the server knows a buffer.
function! lsp_assist#place#uri(bufnr) abort
  if lsp_assist#server#transport() ==# 'vimlsp'
    return lsp#utils#get_buffer_uri(a:bufnr)
  endif
  let l:name = bufname(a:bufnr)
  return empty(l:name) ? 'untitled:buffer-' .. a:bufnr : lsp_assist#place#uri_of(fnamemodify(l:name, ':p'))
endfunction

function! lsp_assist#place#uri_of(path) abort
  let l:path = has('win32') ? '/' .. tr(a:path, '\', '/') : a:path
  return 'file://' .. substitute(substitute(l:path, '\(.\)/$', '\1', ''), '[^[:alnum:]_.~/:-]',
        \ {match -> s:percent(match[0])}, 'g')
endfunction

" The file that a URI names; a URI of another kind as it is.
function! lsp_assist#place#path_of(uri) abort
  if a:uri !~# '^file://'
    return a:uri
  endif
  let l:bytes = substitute(a:uri[7:], '\(%\x\x\)\+', {match -> s:decoded(match[0])}, 'g')
  return has('win32') ? substitute(l:bytes, '^/\ze\a:', '', '') : l:bytes
endfunction

" The path as people say it: relative to the workspace, else to the current directory.
function! lsp_assist#place#shown(path) abort
  for l:root in lsp_assist#server#folders()
    if stridx(a:path, l:root .. '/') == 0
      return a:path[len(l:root) + 1 :]
    endif
  endfor
  return fnamemodify(a:path, ':~:.')
endfunction

" The folder of the project that a file belongs to. Never the home folder or the whole disk, which
" nobody wants to be read; then empty.
function! lsp_assist#place#root(path) abort
  let l:folder = empty(a:path) || a:path =~# '^\a[[:alnum:].+-]\+://' ? getcwd() : fnamemodify(a:path, ':p:h')
  if !isdirectory(l:folder)
    let l:folder = getcwd()
  endif
  let l:folder = resolve(l:folder)
  let l:above = l:folder
  while 1
    for l:marker in get(g:, 'lsp_assist_root_markers', s:MARKERS)
      if !empty(globpath(l:above, l:marker, 1)) && s:may_be_root(l:above)
        return l:above
      endif
    endfor
    let l:next = fnamemodify(l:above, ':h')
    if l:next ==# l:above
      break
    endif
    let l:above = l:next
  endwhile
  let l:here = resolve(getcwd())
  for l:candidate in [stridx(l:folder .. '/', l:here .. '/') == 0 ? l:here : l:folder, l:folder]
    if s:may_be_root(l:candidate)
      return l:candidate
    endif
  endfor
  return ''
endfunction

" The file that the user looks at: of this window, else, from a chat, of the window that was left last,
" else of the first window that shows one; -1 if none does.
function! lsp_assist#place#file_here() abort
  for l:window in [winnr(), winnr('#')] + range(1, winnr('$'))
    let l:bufnr = winbufnr(l:window)
    if l:bufnr > 0 && empty(getbufvar(l:bufnr, '&buftype')) && !empty(bufname(l:bufnr))
      return l:bufnr
    endif
  endfor
  return -1
endfunction

" Shows a place beside the chat: in the window that was left last, else in a new one.
function! lsp_assist#place#open(path, line) abort
  if &filetype ==# 'lspassist' || &buftype ==# 'nofile'
    let l:windows = filter(range(1, winnr('$')),
          \ {_, n -> empty(getwinvar(n, '&buftype')) && !getwinvar(n, '&previewwindow')})
    let l:last = winnr('#')
    if index(l:windows, l:last) >= 0
      execute l:last .. 'wincmd w'
    elseif !empty(l:windows)
      execute l:windows[0] .. 'wincmd w'
    else
      aboveleft new
    endif
  endif
  if resolve(expand('%:p')) !=# resolve(a:path)
    let l:is_kept = !&modified || &hidden || len(win_findbuf(bufnr('%'))) > 1
    execute (l:is_kept ? 'edit' : 'split') fnameescape(fnamemodify(a:path, ':.'))
  endif
  if a:line > 0
    normal! m'
    call cursor(min([a:line, line('$')]), 1)
    normal! ^zvzz
  endif
endfunction

" What a server asks for with window/showDocument. Only in normal mode: it takes the focus.
function! lsp_assist#place#show(params) abort
  if mode() !=# 'n' || !empty(getcmdwintype()) || a:params.uri !~# '^file:'
    return 0
  endif
  let l:line = has_key(a:params, 'selection') ? a:params.selection.start.line + 1 : 0
  call lsp_assist#place#open(lsp_assist#place#path_of(a:params.uri), l:line)
  return 1
endfunction

function! s:position(lnum, before) abort
  let l:n = lsp_assist#server#encoding() ==# 'utf-8' ? len(a:before) : strchars(a:before)
  return {'line': a:lnum - 1, 'character': l:n}
endfunction

function! s:may_be_root(folder) abort
  return a:folder !=# '/' && a:folder !~# '^\a:[\\/]\?$' && a:folder !=# resolve(expand('~'))
endfunction

function! s:percent(char) abort
  return join(map(range(len(a:char)), {_, n -> printf('%%%02X', char2nr(a:char[n]))}), '')
endfunction

function! s:decoded(escaped) abort
  return eval('"' .. substitute(a:escaped, '%', '\\x', 'g') .. '"')
endfunction
