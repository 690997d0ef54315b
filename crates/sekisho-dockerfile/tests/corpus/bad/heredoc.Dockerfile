# mistake: 3:5 heredoc `EOF` does not end
FROM debian
RUN <<EOF
echo one
 EOF
