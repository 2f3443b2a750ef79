package store

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"
)

// identity makes a certificate that signs itself, for 127.0.0.1.
func identity(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(raw)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	return tls.Certificate{Certificate: [][]byte{raw}, PrivateKey: key}, pool
}

func TestAnEtcdBehindTLSIsReachedWithTheRightCertificatesOnly(t *testing.T) {
	t.Parallel()
	server, serverPool := identity(t)
	client, clientPool := identity(t)
	config := &tls.Config{Certificates: []tls.Certificate{server}, ClientCAs: clientPool, ClientAuth: tls.RequireAndVerifyClientCert, NextProtos: []string{"h2"}}
	listener, err := tls.Listen("tcp", "127.0.0.1:0", config)
	if err != nil {
		t.Fatal(err)
	}
	serveProxy(t, listener, startEtcd(t).Socket)
	address := listener.Addr().String()
	good := Config{Endpoints: []string{address}, TLS: &tls.Config{RootCAs: serverPool, Certificates: []tls.Certificate{client}}}
	s, err := Dial(t.Context(), good)
	if err != nil {
		t.Fatal(err)
	}
	put(t, s, Key(ServiceDoc, "shop"), "through TLS")
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	for name, bad := range map[string]*tls.Config{
		"certificate signed by unknown authority": {Certificates: []tls.Certificate{client}},
		"does not answer as etcd does":            nil,
	} {
		_, err := Dial(t.Context(), Config{Endpoints: []string{address}, TLS: bad, DialTimeout: 500 * time.Millisecond})
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("dial: %v, want %q", err, name)
		}
	}
}
