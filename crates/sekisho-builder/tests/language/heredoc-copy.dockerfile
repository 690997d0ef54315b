FROM scratch
ENV V=val
COPY <<EOF /plain
$V "q"
EOF
COPY <<'EOF' /quoted
$V
EOF
COPY <<-EOF /tabs
		x
	y
	EOF
# row: heredoc COPY
# peers: buildkit-now
# want: tree plain f644 0:0 val "q"\n
# want: tree quoted f644 0:0 $V\n
# want: tree tabs f644 0:0 x\ny\n
