package org.example.pocket;

import java.util.LinkedHashMap;
import java.util.Map;

/** Keeps the most recently used entries. */
public class Cache<K, V> extends LinkedHashMap<K, V> {
    private final int limit;

    public Cache(int limit) {
        super(16, 0.75f, true);
        this.limit = limit;
    }

    @Override
    protected boolean removeEldestEntry(Map.Entry<K, V> eldest) {
        return size() > limit;
    }
}
