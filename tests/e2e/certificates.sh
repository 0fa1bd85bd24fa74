# SPDX-License-Identifier: Apache-2.0
# Certificates for NBD over TCP, laid out as for QEMU. Sourced behind lib.sh.
#
#	make_ca DIR
#	issue CA-DIR DIR NAME [OPTION...]	NAME is server or client; options of `openssl x509`, e.g. -days 3

make_ca() { # DIR
	mkdir -p "$1"
	openssl req -x509 -newkey rsa:2048 -nodes -days 300 -subj "/CN=CA ${1##*/}" -keyout "$1/ca-key.pem" -out "$1/ca-cert.pem" \
		-addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign 2>/dev/null
}

issue() { # CA-DIR DIR NAME [OPTION...]
	local ca=$1 dir=$2 name=$3
	shift 3
	mkdir -p "$dir"
	openssl req -newkey rsa:2048 -nodes -subj "/CN=$name" -keyout "$dir/$name-key.pem" -out "$dir/$name.csr" 2>/dev/null
	openssl x509 -req -in "$dir/$name.csr" -CA "$ca/ca-cert.pem" -CAkey "$ca/ca-key.pem" -CAcreateserial -days 30 "$@" \
		-out "$dir/$name-cert.pem" -extfile <(printf '%s\n' subjectAltName=IP:127.0.0.1,DNS:localhost \
			"extendedKeyUsage=${name}Auth" keyUsage=critical,digitalSignature,keyEncipherment) 2>/dev/null
	[ "$ca" -ef "$dir" ] || cp "$ca/ca-cert.pem" "$dir/"
}
