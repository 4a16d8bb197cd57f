" Edits as LSP has them, made in buffers: all of them, or none. Nothing is written to disk: that is for
" the user, who may undo. Knows not where they come from.

" workspace/applyEdit: the params to the result.
function! lsp_assist#workspace_edit#apply(params) abort
  call lsp_assist#documents#flush()
  let l:changed = []
  try
    for [l:uri, l:version, l:edits] in s:by_document(a:params.edit)
      let l:bufnr = s:buffer(l:uri)
      if type(l:version) == v:t_number && l:version != lsp_assist#documents#version(l:bufnr)
        throw 'lsp-assist: ' .. bufname(l:bufnr) .. ' has changed since'
      elseif !getbufvar(l:bufnr, '&modifiable') || getbufvar(l:bufnr, '&readonly')
        throw 'lsp-assist: ' .. bufname(l:bufnr) .. ' cannot be changed'
      endif
      call add(l:changed, [l:bufnr, s:edited(l:bufnr, l:edits)])
    endfor
  catch /^lsp-assist: /
    return {'applied': v:false, 'failureReason': substitute(v:exception, '^lsp-assist: ', '', '')}
  endtry
  for [l:bufnr, l:lines] in l:changed
    call s:put(l:bufnr, l:lines)
  endfor
  return {'applied': v:true}
endfunction

" [[uri, version or null, edits]]
function! s:by_document(edit) abort
  let l:found = map(items(get(a:edit, 'changes', {})), {_, item -> [item[0], v:null, item[1]]})
  for l:change in get(a:edit, 'documentChanges', [])
    if !has_key(l:change, 'edits')
      throw 'lsp-assist: files are not made or renamed by this editor'
    endif
    call add(l:found, [l:change.textDocument.uri, l:change.textDocument.version, l:change.edits])
  endfor
  return l:found
endfunction

function! s:buffer(uri) abort
  let l:bufnr = lsp_assist#documents#bufnr(a:uri)
  if l:bufnr == -1
    let l:bufnr = bufadd(lsp_assist#place#path_of(a:uri))
    call bufload(l:bufnr)
    call setbufvar(l:bufnr, '&buflisted', 1)
  endif
  return l:bufnr
endfunction

" The buffer's lines as they will be. From the last edit to the first, so that places hold.
function! s:edited(bufnr, edits) abort
  " The text ends behind the last line break, on a line of its own.
  let l:lines = getbufline(a:bufnr, 1, '$') + ['']
  let l:edits = sort(copy(a:edits), {a, b -> s:order(b.range.start, a.range.start)})
  for l:edit in l:edits
    let [l:start, l:end] = [s:clamped(l:lines, l:edit.range.start), s:clamped(l:lines, l:edit.range.end)]
    let l:text = split(substitute(l:edit.newText, "\r\\n\\?", "\n", 'g'), "\n", 1)
    let l:text[0] = strpart(l:lines[l:start[0]], 0, l:start[1]) .. l:text[0]
    let l:text[-1] ..= strpart(l:lines[l:end[0]], l:end[1])
    call remove(l:lines, l:start[0], l:end[0])
    call extend(l:lines, l:text, l:start[0])
  endfor
  return len(l:lines) > 1 && empty(l:lines[-1]) ? l:lines[: -2] : l:lines
endfunction

function! s:order(a, b) abort
  return a:a.line == a:b.line ? a:a.character - a:b.character : a:a.line - a:b.line
endfunction

" [index of the line, byte in it]
function! s:clamped(lines, position) abort
  if a:position.line >= len(a:lines)
    return [len(a:lines) - 1, len(a:lines[-1])]
  endif
  let l:line = a:lines[a:position.line]
  let l:byte = lsp_assist#server#encoding() ==# 'utf-8' ? a:position.character : byteidxcomp(l:line, a:position.character)
  return [a:position.line, l:byte < 0 ? len(l:line) : min([l:byte, len(l:line)])]
endfunction

" Only what differs is touched, so that marks, folds and the cursor stay where they are.
function! s:put(bufnr, lines) abort
  let l:old = getbufline(a:bufnr, 1, '$')
  let l:n_same = 0
  let l:n_shared = min([len(l:old), len(a:lines)])
  while l:n_same < l:n_shared && l:old[l:n_same] ==# a:lines[l:n_same]
    let l:n_same += 1
  endwhile
  let l:n_tail = 0
  while l:n_tail < l:n_shared - l:n_same && l:old[-l:n_tail - 1] ==# a:lines[-l:n_tail - 1]
    let l:n_tail += 1
  endwhile
  let l:new = l:n_same < len(a:lines) - l:n_tail ? a:lines[l:n_same : len(a:lines) - l:n_tail - 1] : []
  let l:n_old = len(l:old) - l:n_tail - l:n_same
  let l:n_both = min([l:n_old, len(l:new)])
  if l:n_both > 0
    call setbufline(a:bufnr, l:n_same + 1, l:new[: l:n_both - 1])
  endif
  if len(l:new) > l:n_both
    call appendbufline(a:bufnr, l:n_same + l:n_both, l:new[l:n_both :])
  elseif l:n_old > l:n_both
    silent call deletebufline(a:bufnr, l:n_same + l:n_both + 1, l:n_same + l:n_old)
  endif
endfunction
