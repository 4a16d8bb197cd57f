" A chat: Markdown, with what was shown to the model set apart.

if exists('b:current_syntax')
  finish
endif

runtime! syntax/markdown.vim
unlet! b:current_syntax
" Names of code have underscores, which are no errors here.
silent! syntax clear markdownError

syntax match lspAssistShown /^▏ .*$/
syntax match lspAssistTurn /^# \%(You\>.*\|Assistant\)$/
syntax match lspAssistEnd /^\*\%(Cancelled\.\|Proposes changes of .*\)\*$/

highlight default link lspAssistShown Comment
highlight default link lspAssistTurn Title
highlight default link lspAssistEnd WarningMsg

let b:current_syntax = 'lspassist'
