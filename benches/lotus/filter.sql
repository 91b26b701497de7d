CREATE VIEW filtered AS
SELECT key FROM passages WHERE sem_filter('The passage {text} is about the subject {subject}.');
