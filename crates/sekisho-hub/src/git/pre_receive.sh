#!/bin/sh
# What a job pushes makes and changes no workflow file: every one that a new tip has is as it was there, or
# as it is on some branch. git runs this before any ref moves; each line of its input is a ref that is to move.
set -eu
folder=.github/workflows/
known=
while read -r old new name; do
    case $new in *[!0]*) ;; *) continue ;; esac
    files=$(git ls-tree -r --full-tree "$new" -- "$folder")
    case $old in
    *[!0]*) before=$(git ls-tree -r --full-tree "$old" -- "$folder") ;;
    *) before= ;;
    esac
    if [ -z "$files" ] || [ "$files" = "$before" ]; then continue; fi
    if [ -z "$known" ]; then
        known=$(git for-each-ref --format='%(objectname)' refs/heads | sort -u |
            while read -r tip; do git ls-tree -r --full-tree "$tip" -- "$folder"; done)
    fi
    printf '%s\n' "$files" | while IFS= read -r file; do
        case "
$before
$known
" in
        *"
$file
"*) ;;
        *)
            printf '%s may not create or update the workflow %s of %s\n' \
                "the token of a job" "${file#*	}" "$name" >&2
            exit 1
            ;;
        esac
    done
done
