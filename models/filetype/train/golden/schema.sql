-- People and what they borrowed.
CREATE TABLE person (
    id integer PRIMARY KEY,
    name varchar(80) NOT NULL,
    joined timestamp DEFAULT CURRENT_TIMESTAMP
);

CREATE TABLE loan (
    id integer PRIMARY KEY,
    person_id integer NOT NULL REFERENCES person (id) ON DELETE CASCADE,
    title text NOT NULL
);

CREATE INDEX loan_person ON loan (person_id);

INSERT INTO person (id, name) VALUES (1, 'Ada'), (2, 'Grace');
SELECT name, count(*) FROM person JOIN loan ON loan.person_id = person.id GROUP BY name;
