package main

import (
	"errors"
	"os"

	"github.com/hashicorp/raft"
	raftwal "github.com/hashicorp/raft-wal"
	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.etcd.io/etcd/server/v3/storage/wal/walpb"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"
)

type etcdEntry = *raftpb.Entry

// etcd's server/storage/wal. Durable: Save, which ends in an fdatasync of the log file where there
// are entries. Otherwise: SetUnsafeNoFsync, and Save only writes. It has no read but ReadAll, of all
// entries, at the opening, which must come before an append: so that is part of the opening, and there
// is no read of a range (etcd itself reads from memory). No hard state is saved with the entries.
type etcd struct {
	wal       *wal.WAL
	lastIndex uint64
}

func openEtcd(directory string, durable bool) (store[etcdEntry], error) {
	logger := zap.NewNop()
	s := &etcd{}
	var err error
	if wal.Exist(directory) {
		if s.wal, err = wal.Open(logger, directory, &walpb.Snapshot{}); err != nil {
			return nil, err
		}
		_, _, entries, err := s.wal.ReadAll()
		if err != nil {
			return nil, err
		}
		s.lastIndex = entries[len(entries)-1].GetIndex()
	} else if s.wal, err = wal.Create(logger, directory, nil); err != nil {
		return nil, err
	}
	if !durable {
		s.wal.SetUnsafeNoFsync()
	}
	return s, nil
}

func (s *etcd) entry(index uint64, payload []byte) etcdEntry {
	term := uint64(1)
	return &raftpb.Entry{Term: &term, Index: &index, Data: payload}
}

func (s *etcd) append(entries []etcdEntry) error {
	s.lastIndex = entries[len(entries)-1].GetIndex()
	return s.wal.Save(&raftpb.HardState{}, entries)
}

func (s *etcd) read(_, _ uint64) ([]etcdEntry, error) {
	return nil, errors.New("etcd's wal reads all entries, when it is opened, or none")
}

func (s *etcd) last() uint64 { return s.lastIndex }

func (s *etcd) close() error { return s.wal.Close() }

type raftWalEntry = *raft.Log

// hashicorp/raft-wal. Durable: StoreLogs, which ends in an fsync of the segment. It cannot be told to
// leave that out. Entries are read from the files and decoded; an index of the last segment's is in
// memory.
type raftWal struct {
	wal *raftwal.WAL
}

func openRaftWal(directory string) (store[raftWalEntry], error) {
	if err := os.MkdirAll(directory, 0o755); err != nil {
		return nil, err
	}
	opened, err := raftwal.Open(directory)
	if err != nil {
		return nil, err
	}
	s := &raftWal{opened}
	if last := s.last(); last > 0 {
		_, err = s.read(last, 1)
	}
	return s, err
}

func (s *raftWal) entry(index uint64, payload []byte) raftWalEntry {
	return &raft.Log{Index: index, Term: 1, Data: payload}
}

func (s *raftWal) append(entries []raftWalEntry) error { return s.wal.StoreLogs(entries) }

func (s *raftWal) read(first, count uint64) ([]raftWalEntry, error) {
	found := make([]raftWalEntry, 0, count)
	for index := first; index < first+count; index++ {
		entry := new(raft.Log)
		if err := s.wal.GetLog(index, entry); err != nil {
			return nil, err
		}
		found = append(found, entry)
	}
	return found, nil
}

func (s *raftWal) last() uint64 { return must(s.wal.LastIndex()) }

func (s *raftWal) close() error { return s.wal.Close() }
