# escape=`
FROM base
COPY <<EOF /o
$UNSET `$x \$y \n `n "q" 'r' a\\b \"z\"
c\
d ${U:-"a b"}
EOF
# row: escapes in here-documents
# peers: buildkit-now
# want: tree o f644 0:0  ` $y n `n "q" 'r' a\b "z"\nc\nd "a b"\n
