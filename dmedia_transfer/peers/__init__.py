"""Machines of one library speak to each other over HTTPS: who they are, whom they trust, and what they serve.

wire          the words of the protocol: paths, headers, numbers            (both sides, pure)
certificates  a machine's certificates: made, read, shown                   (both sides)
section       `peer` of a machine document: certificates and addresses      (both sides)
identity      this machine's own key, made at the first start and rotated   (both sides)
tls           TLS 1.3 with pinned certificates, and its errors in our words (both sides)
addresses     where this machine can be reached, and what is near it
netwatch      hears when that changes
discovery     finds machines on the local network                           (mDNS)
reach         how another machine is reached from here, or why it is not
trust         whose certificates are accepted, and which never again        (the daemon's)
server/       the HTTPS server, a process of its own
"""
