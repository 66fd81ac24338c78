import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Properties;
import java.util.Set;
import java.util.TreeMap;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.ElectionType;
import org.apache.kafka.common.KafkaFuture;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.TopicPartitionInfo;
import org.apache.kafka.common.acl.*;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.quota.*;
import org.apache.kafka.common.resource.PatternType;
import org.apache.kafka.common.resource.ResourcePattern;
import org.apache.kafka.common.resource.ResourceType;
import org.apache.kafka.common.serialization.StringSerializer;

/**
 * Administers the tests' Kafka cluster, for harness/kafka_cluster.py: java ClusterAdmin.java BOOTSTRAP, then one command per
 * line and one line as the answer, "ok ..." or "error ...". Replicas are written 1,2,3 per partition.
 */
public class ClusterAdmin {
    private final Admin admin;
    private final String bootstrap;

    ClusterAdmin(String bootstrap) {
        this.bootstrap = bootstrap;
        Properties properties = new Properties();
        properties.put("bootstrap.servers", bootstrap);
        properties.put("request.timeout.ms", "3000");
        properties.put("default.api.timeout.ms", "15000");
        properties.put("reconnect.backoff.max.ms", "200");
        // when all brokers that it knows are away
        properties.put("metadata.recovery.strategy", "rebootstrap");
        admin = Admin.create(properties);
    }

    private static <T> T get(KafkaFuture<T> future) throws Exception {
        return future.get(20, TimeUnit.SECONDS);
    }

    private static List<Integer> numbers(String text) {
        List<Integer> list = new ArrayList<>();
        for (String number : text.split(","))
            list.add(Integer.parseInt(number));
        return list;
    }

    private static Map<String, String> settings(String[] words, int first) {
        Map<String, String> map = new TreeMap<>();
        for (int i = first; i < words.length; i++) {
            String[] pair = words[i].split("=", 2);
            map.put(pair[0], pair[1]);
        }
        return map;
    }

    /** create TOPIC REPLICAS[;REPLICAS...] [key=value ...] */
    private String create(String[] words) throws Exception {
        Map<Integer, List<Integer>> assignment = new HashMap<>();
        for (String replicas : words[2].split(";"))
            assignment.put(assignment.size(), numbers(replicas));
        NewTopic topic = new NewTopic(words[1], assignment).configs(settings(words, 3));
        get(admin.createTopics(List.of(topic)).all());
        return "";
    }

    /** config topic|broker NAME key=value ... (an empty value: the default) */
    private String config(String[] words) throws Exception {
        ConfigResource.Type type = words[1].equals("topic") ? ConfigResource.Type.TOPIC : ConfigResource.Type.BROKER;
        List<AlterConfigOp> operations = new ArrayList<>();
        settings(words, 3).forEach((key, value) -> operations.add(new AlterConfigOp(new ConfigEntry(key, value),
            value.isEmpty() ? AlterConfigOp.OpType.DELETE : AlterConfigOp.OpType.SET)));
        String name = words[2].equals("-") ? "" : words[2];
        get(admin.incrementalAlterConfigs(Map.of(new ConfigResource(type, name), operations)).all());
        return "";
    }

    /** describe TOPIC: for each partition LEADER:ISR:REPLICAS, and the topic's id */
    private String describe(String[] words) throws Exception {
        TopicDescription topic = get(admin.describeTopics(List.of(words[1])).allTopicNames()).get(words[1]);
        StringBuilder out = new StringBuilder(topic.topicId().toString());
        for (TopicPartitionInfo partition : topic.partitions()) {
            out.append(' ').append(partition.leader() == null ? -1 : partition.leader().id()).append(':');
            out.append(String.join(",", partition.isr().stream().map(n -> n.idString()).toList())).append(':');
            out.append(String.join(",", partition.replicas().stream().map(n -> n.idString()).toList()));
        }
        return out.toString();
    }

    /** offsets TOPIC: BEGINNING END of partition 0 */
    private String offsets(String[] words) throws Exception {
        TopicPartition partition = new TopicPartition(words[1], 0);
        long first = get(admin.listOffsets(Map.of(partition, OffsetSpec.earliest())).partitionResult(partition)).offset();
        long end = get(admin.listOffsets(Map.of(partition, OffsetSpec.latest())).partitionResult(partition)).offset();
        return first + " " + end;
    }

    /** quota CLIENT_ID key=value ... (an empty value: none) */
    private String quota(String[] words) throws Exception {
        List<ClientQuotaAlteration.Op> operations = new ArrayList<>();
        settings(words, 2).forEach((key, value) -> operations.add(
            new ClientQuotaAlteration.Op(key, value.isEmpty() ? null : Double.parseDouble(value))));
        ClientQuotaEntity entity = new ClientQuotaEntity(Map.of(ClientQuotaEntity.CLIENT_ID, words[1]));
        get(admin.alterClientQuotas(List.of(new ClientQuotaAlteration(entity, operations))).all());
        return "";
    }

    /** acl add|remove TOPIC USER OPERATION allow|deny */
    private String acl(String[] words) throws Exception {
        ResourcePattern pattern = new ResourcePattern(ResourceType.TOPIC, words[2], PatternType.LITERAL);
        AccessControlEntry entry = new AccessControlEntry("User:" + words[3], "*", AclOperation.fromString(words[4].toUpperCase()),
            AclPermissionType.fromString(words[5].toUpperCase()));
        AclBinding binding = new AclBinding(pattern, entry);
        if (words[1].equals("add"))
            get(admin.createAcls(List.of(binding)).all());
        else
            get(admin.deleteAcls(List.of(binding.toFilter())).all());
        return "";
    }

    /** transaction TOPIC commit|abort COUNT VALUE (its "%d" becomes 0, 1, ...) */
    private String transaction(String[] words) throws Exception {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", bootstrap);
        properties.put("transactional.id", "t-" + System.nanoTime());
        properties.put("max.block.ms", "15000");
        try (KafkaProducer<String, String> producer = new KafkaProducer<>(properties, new StringSerializer(), new StringSerializer())) {
            producer.initTransactions();
            producer.beginTransaction();
            for (int i = 0; i < Integer.parseInt(words[3]); i++)
                producer.send(new ProducerRecord<>(words[1], 0, null, words[4].replace("%d", Integer.toString(i))));
            producer.flush();
            if (words[2].equals("commit"))
                producer.commitTransaction();
            else
                producer.abortTransaction();
        }
        return "";
    }

    private String obey(String line) throws Exception {
        String[] words = line.split(" ", line.startsWith("transaction") ? 5 : 0);
        TopicPartition partition = words.length > 1 ? new TopicPartition(words[1], 0) : null;
        switch (words[0]) {
            case "create":
                return create(words);
            case "delete":
                get(admin.deleteTopics(List.of(words[1])).all());
                return "";
            case "partitions":
                get(admin.createPartitions(Map.of(words[1], NewPartitions.increaseTo(Integer.parseInt(words[2])))).all());
                return "";
            case "config":
                return config(words);
            case "reassign":
                get(admin.alterPartitionReassignments(
                    Map.of(partition, Optional.of(new NewPartitionReassignment(numbers(words[2]))))).all());
                return "";
            case "elect":
                get(admin.electLeaders(words[2].equals("unclean") ? ElectionType.UNCLEAN : ElectionType.PREFERRED, Set.of(partition)).all());
                return "";
            case "describe":
                return describe(words);
            case "offsets":
                return offsets(words);
            case "controller":
                return Integer.toString(get(admin.describeMetadataQuorum().quorumInfo()).leaderId());
            case "brokers":
                return Integer.toString(get(admin.describeCluster().nodes()).size());
            case "quota":
                return quota(words);
            case "acl":
                return acl(words);
            case "delete-records":
                get(admin.deleteRecords(Map.of(partition, RecordsToDelete.beforeOffset(Long.parseLong(words[2])))).all());
                return "";
            case "transaction":
                return transaction(words);
            default:
                throw new IllegalArgumentException("what? " + line);
        }
    }

    public static void main(String[] arguments) throws Exception {
        ClusterAdmin self = new ClusterAdmin(arguments[0]);
        BufferedReader input = new BufferedReader(new InputStreamReader(System.in));
        System.out.println("ok");
        for (String line; (line = input.readLine()) != null;) {
            try {
                System.out.println("ok " + self.obey(line));
            } catch (Exception e) {
                Throwable cause = e.getCause() != null ? e.getCause() : e;
                System.out.println("error " + cause.toString().replace('\n', ' '));
            }
        }
        System.exit(0);
    }
}
