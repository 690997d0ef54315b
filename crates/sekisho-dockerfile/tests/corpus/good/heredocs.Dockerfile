# stages: -
FROM debian:bookworm
RUN <<EOF
set -eu
# a comment of the shell, not of the file
apt-get update

apt-get install -y --no-install-recommends ca-certificates
EOF
RUN python3 <<PYTHON && echo done
print("FROM here")
PYTHON
COPY <<-"nginx.conf" <<index.html /srv/
	server { listen $port; }
nginx.conf
<p>${TITLE:-hello}</p>
index.html
RUN cat <<ONE - 3<<TWO
one
ONE
two
TWO
CMD echo "1 << 2"
